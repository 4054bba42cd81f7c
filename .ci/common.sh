# What every script of .ci shares: where things are kept, how a step is shown, how a part becomes present.
# A part is built in a temporary folder and renamed into place whole, so an interrupted install leaves nothing to trip over.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SNAPGATE_CACHE:-$HOME/.cache/snapgate}
export ROOT CACHE SNAPGATE_CACHE=$CACHE CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
mkdir -p "$CACHE/bin"

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

STEP_TIMES=()

step() { # step TITLE COMMAND... : runs it, prints the seconds it took, stops everything when it fails
  local title=$1 begin=$SECONDS; shift
  printf '\n=== %s\n' "$title"
  "$@" || die "failed: $title (after $((SECONDS - begin)) s)"
  printf -- '--- %s: %d s\n' "$title" "$((SECONDS - begin))"
  STEP_TIMES+=("$(printf '%6d s  %s' "$((SECONDS - begin))" "$title")")
}

retry() { # retry COMMAND... : a registry that hiccups once is no reason for a red run
  local try; for try in 1 2 3; do "$@" && return; echo "attempt $try failed: $*" >&2; sleep $((try * 5)); done; return 1
}

with_cache_lock() { # one installer at a time per cache, however many runs share it
  exec 9>"$CACHE/lock"; flock 9
}

place() { # place NAME BUILDER ARGS... : $CACHE/NAME holds what BUILDER put into the folder it is given
  local name=$1 builder=$2 dest=$CACHE/$1 fresh; shift 2
  [ ! -e "$dest/.complete" ] || return 0
  fresh=$(mktemp -d "$CACHE/building.XXXXXX")
  # stdin and the lock's descriptor stay out of what is started; `set -e` holds inside because nothing tests this call
  (set -euo pipefail; "$builder" "$fresh" "$@") </dev/null 9>&-
  touch "$fresh/.complete"; chmod 755 "$fresh"
  rm -rf "$dest"; mkdir -p "$(dirname "$dest")"; mv "$fresh" "$dest"
  echo "installed $name"
}
