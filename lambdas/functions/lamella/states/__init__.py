"""What each state of the machine does; the handlers only parse, call and answer."""
