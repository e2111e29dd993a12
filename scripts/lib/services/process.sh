# Sourced by scripts/services: processes by pid, ports, waiting. Bash; expects $dir and $wait_s.
# shellcheck shell=bash
: "${dir:?}" "${wait_s:?}"

# place NAME: the directory of a server, as kafka/1 for kafka-1.
place() { echo "$dir/${1/-//}"; }

# The pid of a server that is running and ours, or nothing. A pid may have passed to another process since: ours is
# called with an argument that no other has, which was noted with the pid.
pid_of() {
  local pid mark
  { read -r pid && read -r mark; } 2>/dev/null <"$(place "$1")/pid" || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "$mark" && echo "$pid"
}

running() { pid_of "$1" >/dev/null; }

# detach NAME MARK LOG COMMAND...: starts COMMAND, which has MARK among its arguments, so that it outlives the caller.
detach() {
  local where mark=$2 log=$3
  where=$(place "$1")
  shift 3
  # A server needs a handle for each file and connection; soft limits are often 1024.
  (
    ulimit -S -n 65536 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"
    # The lock of this directory, and whatever else was left open by who called us, is not the server's.
    for handle in /proc/self/fd/*; do
      handle=${handle##*/}
      [ "$handle" -le 2 ] || [ "$handle" -eq 255 ] || eval "exec $handle>&-"
    done
    cd / && exec setsid "$@"
  ) </dev/null >>"$log" 2>&1 &
  printf '%s\n%s\n' "$!" "$mark" >"$where/pid"
  # Between fork and exec the process still bears our name.
  eventually 5 running_or_gone "${where}" || true
}

# running_or_gone DIRECTORY: true once the command has begun, or ended already.
running_or_gone() {
  local pid mark
  { read -r pid && read -r mark; } <"$1/pid"
  gone "$pid" || tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "$mark"
}

# eventually SECONDS COMMAND...: true as soon as COMMAND is.
eventually() {
  local ends=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$ends" ] || return 1
    sleep 0.1
  done
}

# Like `eventually`, but gives up as soon as the server is gone.
answers_soon() {
  local ends=$((SECONDS + wait_s))
  until "$(kind "$1")_answers" "$1"; do
    running "$1" && [ "$SECONDS" -lt "$ends" ] || return 1
    sleep 0.1
  done
}

# A zombie is gone too: when it is reaped is up to whoever inherited it.
gone() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }

# signal_of NAME: what asks this server to end in order (PostgreSQL: SIGINT, which does not wait for its clients).
signal_of() { case $1 in postgres) echo INT ;; *) echo TERM ;; esac; }

ask_to_stop() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill -s "$(signal_of "$1")" "$pid" 2>/dev/null || true
}

# end NAME: in order; by force, and says so, if that takes too long.
end() {
  local pid
  pid=$(pid_of "$1") || return 0
  ask_to_stop "$1"
  if ! eventually 30 gone "$pid"; then
    echo "$1: did not end within 30 s of being asked (pid $pid); ended by SIGKILL." >&2
    slay "$1"
  fi
}

children_of() { grep -l "^PPid:[[:space:]]$1\$" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3; }

# slay NAME: SIGKILL to it and to its children, at once, and waits until they are gone.
slay() {
  local pid child all
  pid=$(pid_of "$1") || return 0
  # Stopped first, so that it starts no more children.
  kill -STOP "$pid" 2>/dev/null
  all="$pid $(children_of "$pid")"
  # The list of pids is split into words on purpose.
  # shellcheck disable=SC2086
  kill -KILL $all 2>/dev/null
  for child in $all; do eventually 10 gone "$child" || return 1; done
}

# memory_mb NAME: resident memory of it and its children (pages that they share are counted for each).
memory_mb() {
  local pid child
  pid=$(pid_of "$1") || return 1
  for child in $pid $(children_of "$pid"); do
    awk '/^VmRSS:/ { print $2 }' "/proc/$child/status" 2>/dev/null
  done | awk '{ kib += $1 } END { print int(kib / 1024) }'
}

# port NAME: the port of a server, chosen once and remembered. Below the range from which connections take theirs.
port() {
  local found
  touch "$dir/ports"
  found=$(awk -v name="$1" '$1 == name { print $2 }' "$dir/ports")
  while [ -z "$found" ]; do
    found=$((20000 + RANDOM % 12000))
    if (exec 3<>"/dev/tcp/127.0.0.1/$found") 2>/dev/null || grep -q " $found\$" "$dir/ports"; then
      found=
      continue
    fi
    echo "$1 $found" >>"$dir/ports"
  done
  echo "$found"
}

# explain NAME: why it does not answer, and what to do; always fails.
explain() {
  local log state
  log=$(place "$1")/server.log
  if running "$1"; then state="does not answer after $wait_s s"; else state="ended"; fi
  {
    echo "services: $1 $state. What it complained about, and the end of $log:"
    # A broker's last lines are those of its orderly end; what brought it about stands above them.
    {
      grep -E 'ERROR|FATAL|Exception' "$log" | grep -v ' INFO ' | tail -n 8
      echo ...
      tail -n 12 "$log"
    } 2>/dev/null | cut -c1-300 | sed 's/^/  | /'
    if grep -qsi -E 'already in use|could not bind|Failed to bind' "$log"; then
      echo "Its port is taken by another program: scripts/services remove, then up, chooses others."
    else
      echo "scripts/services start $1 tries again; scripts/services remove begins anew (SERVICES_DIR=$dir)."
    fi
  } >&2
  return 1
}
