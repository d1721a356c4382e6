"""One simulated partner system, run as `python -m gateway.sandbox.system CONFIG`.

writing.py   from what a worker enters to FHIR resources, and to the JSON Patch of an act
records.py   the system's own store: what it received, what it sent, whom it was told of
hub.py       its side of the FHIR API, as a SMART backend client
door.py      who may bring something: the hub, by its statement or by a token of this system's own server
desk.py      what a worker can do at it
app.py       its HTTP server: the partner's FHIR receiver or notice address, and the desk
"""
