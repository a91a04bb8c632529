#!/bin/sh
# Runs `turnpike serve` again whenever it ends, until it is asked to end itself. Tilt exchanges
# files and then ends the server by the id in /tmp/turnpike.pid.
set -u
child=
leave() {
  kill -TERM "$child" 2>/dev/null
  wait "$child"
  exit 0
}
trap leave TERM INT
while :; do
  turnpike serve "$@" &
  child=$!
  echo "$child" >/tmp/turnpike.pid
  wait "$child"
  sleep 1
done
