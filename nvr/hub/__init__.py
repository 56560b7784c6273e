"""The hub: where clips and heartbeats of all boxes arrive, and where people see them.

settings.py    DIR/hub.yaml -> frozen settings             database.py   engine, transactions, migrations
tables.py      the tables of the core                      changes.py    what changed, told to every hub process
identity.py    codes, enrolment, tokens                    committer.py  one transaction for what came within 50 ms
control.py     the WebSocket of a box                      intake.py     what its messages do to the tables
states.py      what is true now, of them                   live.py        fragments from a box to its viewers
commands.py    what boxes are asked to do                  uploads.py    tus 1.0; objects by content
blobs.py s3.py where bytes lie: a folder or S3             stills.py     the newest picture of each camera
app.py         all of it as one ASGI application           process.py    and as a process
upkeep.py      silence, expiry, history, room for objects
people/        users, API, alerts, reports                 pages/        what browsers show
"""
