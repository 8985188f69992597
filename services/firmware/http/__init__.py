"""Images and the web page over HTTP(S)."""
