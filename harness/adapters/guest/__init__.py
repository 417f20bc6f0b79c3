"""What is asked of a booted guest: its agent, fio in it, the pool experiment in it."""
