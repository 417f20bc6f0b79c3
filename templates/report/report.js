// Draws each chart where its data stands: those in sight first, the others when there is time.

const theme = JSON.parse(document.getElementById("theme").textContent);

/** Columns, as the page holds them, to rows, as Vega-Lite wants them. */
function rows(columns) {
  const names = Object.keys(columns);
  if (!names.length) return [];
  return columns[names[0]].map((_, row) =>
    Object.fromEntries(names.map((name) => [name, columns[name][row]])),
  );
}

async function draw(place) {
  const source = place.querySelector("script");
  if (!source || place.closest("details:not([open])")) return; // drawn already, or folded away
  const { spec, columns } = JSON.parse(source.textContent);
  source.remove();
  try {
    await globalThis.vegaEmbed(
      place,
      { width: "container", data: { values: rows(columns) }, ...spec },
      {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        ast: true, // expressions are interpreted: the page's policy forbids eval
        config: theme,
        tooltip: { theme: "custom" },
      },
    );
    place.style.minHeight = "";
  } catch (error) {
    place.textContent = "This chart could not be drawn; its numbers stand in the tables.";
    console.error(error);
  }
}

const places = [...document.querySelectorAll(".chart")];
const sight = new IntersectionObserver(
  (seen) => seen.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "400px" },
);
places.forEach((place) => sight.observe(place));

/** The rest one by one, so that the page answers meanwhile; paper wants them all. */
async function drawRest() {
  for (const place of places) {
    await draw(place);
    await new Promise((go) => setTimeout(go));
  }
  performance.mark("drawn"); // for who measures, or waits for it
}

addEventListener("beforeprint", () => places.forEach(draw));
if (document.readyState === "complete") setTimeout(drawRest);
else addEventListener("load", () => setTimeout(drawRest));
