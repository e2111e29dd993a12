# Sourced by the install scripts: finds which Debian packages are missing and installs only those.
# POSIX sh; expects nothing from its caller but the call: install_missing WHAT PACKAGE...
# shellcheck shell=sh

# Prints those of its arguments that are not installed.
missing_packages() {
    for package in "$@"; do
        # A package that was removed but keeps its settings is known and still missing.
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf '%s\n' "$package"
    done
}

# Installs what is missing of PACKAGE...; does nothing, and says so, when nothing is.
install_missing() {
    what=$1
    shift
    if ! command -v dpkg-query >/dev/null 2>&1; then
        echo "$what: this is not a Debian system; install by other means what these packages hold:" >&2
        echo "  $*" >&2
        return 1
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    if [ -z "$missing" ]; then
        echo "$what: all $# packages are installed, nothing to do."
        return 0
    fi
    echo "$what: these packages are missing and will be installed:"
    echo "  $missing"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "$what: neither root nor sudo. As root: apt-get install --no-install-recommends $missing" >&2
        return 1
    fi
    # The list of packages is split into words on purpose.
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null 2>&1 && $as_root apt-get update -q &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; then
        echo "$what: installed."
        return 0
    fi
    echo "$what: could not install. With a network: apt-get install --no-install-recommends $missing" >&2
    return 1
}
