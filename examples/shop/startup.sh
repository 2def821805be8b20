#!/bin/sh
# Registers this clone with clonegate, keeps its lease alive, and takes it out
# again when told to stop (SIGTERM). Needs a POSIX shell, curl and sed.
set -u

owner=$(printf '%s' "${CLONEGATE_OWNER:-}" | sed 's/["\]/\\&/g') # a person's name, for JSON

# What this clone serves, and the addresses behind it.
registration=$(cat <<EOT
{
  "instance": "$CLONEGATE_INSTANCE",
  "template": "${CLONEGATE_TEMPLATE:-}",
  "owner": "$owner",
  "services": {
    "www": {
      "endpoints": ["$CLONEGATE_ADDRESS_WEB:8080"],
      "default": true,
      "health": {"path": "/healthz"}
    },
    "api": {
      "endpoints": ["$CLONEGATE_ADDRESS_API1:8080", "$CLONEGATE_ADDRESS_API2:8080"],
      "health": {"path": "/healthz"}
    }
  },
  "hosts": {
    "db": ["$CLONEGATE_ADDRESS_DB"],
    "api1": ["$CLONEGATE_ADDRESS_API1"],
    "api2": ["$CLONEGATE_ADDRESS_API2"],
    "web": ["$CLONEGATE_ADDRESS_WEB"]
  },
  "records": [{"name": "_shop._tcp", "type": "SRV", "ttl": 60, "data": "0 0 8080 web"}]
}
EOT
)

clone=$CLONEGATE_API/v1/clones/$CLONEGATE_ID

# call METHOD URL [BODY] leaves the answer in $status (000: there was none) and
# $answer. The token reaches curl on its standard input: an argument could be
# read by everybody on this machine.
call() {
  token=
  read -r token <"$CLONEGATE_TOKEN_FILE" || [ -n "$token" ] || fail "no token in $CLONEGATE_TOKEN_FILE"
  answer=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
    curl --config - --silent --show-error --max-time 10 --write-out '\n%{http_code}' \
      ${CLONEGATE_CA_FILE:+--cacert "$CLONEGATE_CA_FILE"} \
      --request "$1" ${3:+--header 'Content-Type: application/json' --data "$3"} "$2")
  status=$(printf '%s' "$answer" | sed -n '$p')
  answer=$(printf '%s' "$answer" | sed '$d')
}

register() { call PUT "$clone" "$registration"; }
renew() { call POST "$clone/renew" "{\"instance\": \"$CLONEGATE_INSTANCE\"}"; }

# field NAME PATTERN prints the value of that name in the answer.
field() { printf '%s' "$answer" | sed -n "s/.*\"$1\": *\($2\).*/\1/p"; }

say() { echo "startup: clone $CLONEGATE_ID: $*" >&2; }
fail() { say "$*"; exit 1; }

# nap SECONDS (20 if the answer did not say) can be interrupted by a signal,
# which a plain sleep cannot.
nap() { sleep "${1:-20}" & sleeper=$!; wait "$sleeper"; sleeper=; }

stop() {
  trap '' TERM INT
  [ -z "${sleeper:-}" ] || kill "$sleeper" 2>/dev/null
  call DELETE "$clone?instance=$CLONEGATE_INSTANCE"
  say "stopped; unregistering was answered with $status"
  exit 0
}
trap stop TERM INT

step=register # what to do next: register, and from then on renew
pause=1       # seconds before a failed step is tried again
while :; do
  $step
  case $step-$status in
  register-200 | register-201)
    say "registered: $(field urls '{[^}]*}')"
    step=renew pause=1
    nap "$(field renew_every '[0-9]*')"
    ;;
  renew-200)
    pause=1
    nap "$(field renew_every '[0-9]*')"
    ;;
  renew-404 | renew-410) # the lease has run out: come back
    say "the lease has ended, registering again: $answer"
    step=register
    ;;
  register-410 | *-412) # ended on purpose, or replaced by a newer life
    say "this life is over: $answer"
    exit 0
    ;;
  register-409) fail "the ID, or one of its names, belongs to somebody else: $answer" ;;
  *-000 | *-408 | *-429 | *-5*) # not now
    say "cannot $step now ($status), trying again in $pause s: $answer"
    nap "$pause"
    [ "$pause" -ge 16 ] || pause=$((pause * 2))
    ;;
  *) fail "$step was refused ($status): $answer" ;;
  esac
done
