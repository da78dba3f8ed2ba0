# Ends the servers of a cluster when the process that started them is gone, however it went.
# usage: watchdog.sh DIR remove|empty|keep SOCKETDIR
# Its standard input is a pipe that only that process holds open: the line "done" means that
# nothing is left to do, end of file without it that the process died.
dir=$1 after=$2 sockets=$3
while read -r line; do
	[ "$line" = done ] && exit 0
done

# Every process of the cluster works in a directory below $dir; the name check spares a
# shell or an editor that somebody has opened there.
ours() {
	for p in /proc/[0-9]*; do
		comm=
		read -r comm <"$p/comm" || continue
		case $comm in postgres | initdb | cp) ;; *) continue ;; esac
		cwd=$(readlink "$p/cwd") || continue
		case $cwd in "$dir" | "$dir"/*) echo "${p#/proc/}" ;; esac
	done
}

# SIGINT is PostgreSQL's fast shutdown and leaves clean files; SIGQUIT its immediate one.
signal=QUIT
[ "$after" = keep ] && signal=INT
round=0
while pids=$(ours) && [ -n "$pids" ]; do
	round=$((round + 1))
	[ $round -gt 50 ] && signal=QUIT
	[ $round -gt 100 ] && signal=KILL
	kill -s $signal $pids
	kill -s CONT $pids # a paused server must wake up to end
	sleep 0.1
done

# A server that was killed leaves a System V shared memory segment; its lock file names it in line 7.
for lock in "$dir"/*/*/postmaster.pid; do
	[ -f "$lock" ] || continue
	id=$(sed -n '7s/^ *[0-9][0-9]* *//p' "$lock")
	[ -n "$id" ] && ipcrm -m "$id"
done

case $after in
remove) rm -rf "$dir" ;;
empty) rm -rf "$dir"/* ;;
esac
rm -rf "$sockets"
