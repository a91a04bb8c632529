"""One codec for each kind of upstream, and its thin transport."""
