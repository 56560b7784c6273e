"""A city that is hurt on purpose, by a script drawn from a seed, and a score of what it made of it: `python -m tools.city simulate --seed 1 --minutes 10`.

Real are: some boxes (`nvr run`, all of its processes), their cameras (`tools.camera`, RTSP), the hub (`nvr hub run`), TLS, every byte between them. Light are the
other boxes (light_box.py): they speak the real wire, of drawn cameras, and keep no footage. All of it runs in real time.

    script.py    seed -> what will be done, to whom, when; what will be asked for
    truth.py     what was done -> which second of which camera may be missing, and for which cause; which alarms are due
    score.py     truth beside what box and hub say -> what is wrong
    footage.py   the ledger, the rings and the clips of a real box, as values
    sheet.py     the score as a page of text, and as JSON
    link.py      a process: the way from each box to the hub, which can be cut, slow or lossy
    edge.c       loaded into the programs of a real box: its clock and its disk, as the script wants them; edge.py builds and sets it
    world.py     starts and hurts processes
    watch.py     what the hub shows, asked every two seconds as a person would
    run.py       one simulation from beginning to end
"""
