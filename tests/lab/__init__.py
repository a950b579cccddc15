"""A laboratory of broken networks and hostile servers, on loopback.

`wire` is a server that runs a script on each connection, `scripts` imitates broken networks and
servers, `account` holds the answers of a small account that is well, and `bench` runs the real
client against all of them.
"""
