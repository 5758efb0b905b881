"""What hangs on a person: shoulders, clothes, glasses, caps."""
