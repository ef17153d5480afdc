#!/bin/sh
# What accept4(2) on Linux says without a free descriptor when no client waits.
#
# One would guess: a listening socket that does not block gives EAGAIN as long as there
# is nothing to accept, and EMFILE only when a client is there that cannot be served.
# What happens: the descriptor is reserved before the queue is looked at, so that EMFILE
# comes although nobody waits. A server that takes each EMFILE for a client in need
# (and counts it, logs it, or closes an idle connection in its favour) does so for
# nobody, as often as it asks. poll(2) on the listener tells the two apart. The client
# that does wait is not lost: it stays in the queue.
# Version: Linux 6.18. Source: net/socket.c, where accept4 takes a descriptor
# (get_unused_fd_flags) before it asks the protocol for a connection.
#
# Needs python3, and nothing from elsewhere. Fails when that changes.
set -eu
uname -sr
python3 - <<'EOF'
import errno, os, resource, select, socket, sys

l = socket.socket()
l.bind(("127.0.0.1", 0))
l.listen(5)
l.setblocking(False)

def accept():
    try:
        l.accept()
        return "a connection"
    except OSError as e:
        return errno.errorcode[e.errno]

def waits():
    p = select.poll()
    p.register(l, select.POLLIN)
    return bool(p.poll(0))

usual = accept()
client = socket.socket()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.dup(1)  # the lowest that is free
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
nobody, nobody_waits = accept(), waits()
client.connect(l.getsockname())
somebody, somebody_waits = accept(), waits()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
after = accept()
print("no client, descriptors left:", usual)
print("no client, no descriptor:   ", nobody, "- poll says that a client waits:", nobody_waits)
print("a client, no descriptor:    ", somebody, "- poll says that a client waits:", somebody_waits)
print("the same client, later:     ", after)
sys.exit((usual, nobody, nobody_waits, somebody, somebody_waits, after) != ("EAGAIN", "EMFILE", False, "EMFILE", True, "a connection"))
EOF
