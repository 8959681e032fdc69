# Runs a server that must not outlive its holder.
#
#   sh guard.sh LOG COMMAND...
#
# Standard input is a pipe whose other end the holder keeps. Each line read from
# it is a signal for the server: KILL goes to the server and all its children,
# any other to the server alone, as an operator would send it. When the pipe
# ends, because the holder let go or died, the server is killed. Standard output
# says the server's process id, once. The guard ends when the server does, with
# the server's status, and leaves none of its children.
#
# The server must stay in the foreground: one that makes a session of its own, as
# daemons do, escapes.

log=$1
shift

# The holder's pipe, by another number: a command in the background has its own
# standard input taken away.
exec 3<&0

# A session of its own makes the server the leader of a group, which its children
# join, and keeps the terminal's signals from it.
setsid "$@" </dev/null >>"$log" 2>&1 3<&- &
server=$!

send() {
    case $1 in
    KILL) kill -s KILL -- "-$server" || kill -s KILL "$server" ;;
    *) kill -s "$1" "$server" ;;
    esac 2>/dev/null
}

{
    while read -r signal; do send "$signal"; done
    send KILL
} <&3 &
listener=$!
exec 3<&-

echo "$server"
wait "$server" 2>/dev/null # the shell would say here what killed it
status=$?
kill "$listener" 2>/dev/null
kill -s KILL -- "-$server" 2>/dev/null # children that it left behind
exit "$status"
