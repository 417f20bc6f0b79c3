"""Run a shell script in a guest and print its output: what a playbook's task calls to get into the guest.

usage: python agent_exec.py SOCKET SCRIPT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.bare_guest import Agent

if __name__ == "__main__":
    socket, script = sys.argv[1:]
    agent = Agent(Path(socket), time.monotonic() + 120)
    agent.ask("guest-ping")
    sys.stdout.write(agent.run(script))
