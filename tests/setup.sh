#!/bin/sh
# Installs what a target of the Makefile needs and the machine does not have:
#
#     tests/setup.sh build|test|lint|bench
#
# System packages are installed with apt-get where we may (as root); otherwise the missing ones are
# named in one line. Cargo's and Python's own packages need no rights. Nothing that is installed
# here is left running.
set -eu
cd "$(dirname "$0")/.."

# nginx, losetup and mount are in sbin, which is not on every user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

# The one that the tests were written with; it builds with the pinned Rust.
NEXTEST=0.9.143

# The one that docs/benchmarks.md compares with.
ANSIBLE=2.19.14

# The control of the swaps that must fail.
PM2=7.0.4

# Both ends of the WebSockets that a test of the gate carries.
WEBSOCKETS=17.4

# A server that nobody here wrote, to be swapped under load.
GUNICORN=27.0.1

missing=
packages=

# need COMMAND PACKAGE: COMMAND must be there; PACKAGE has it.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    missing="$missing $1"
    packages="$packages $2"
}

fail() {
    echo "error: $*" >&2
    exit 1
}

for_build() {
    command -v cargo >/dev/null 2>&1 || fail "no cargo; install Rust from https://rustup.rs"
    need cc gcc
}

need_venv() {
    python3 -c 'import ensurepip' >/dev/null 2>&1 || {
        missing="$missing python3-venv"
        packages="$packages python3-venv"
    }
}

for_test() {
    need curl curl
    need nginx nginx
    need prometheus prometheus
    need strace strace
    need ip iproute2
    need unshare util-linux
    need mkfs.ext4 e2fsprogs
    need losetup mount
    need mount mount
    need_venv
}

for_bench() {
    need etcd etcd-server
    need etcdctl etcd-client
    need nginx nginx
    need haproxy haproxy
    need wrk wrk
    need node nodejs
    need npm npm
    need_venv
}

install_packages() {
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        fail "missing:$missing; install (Debian's names): apt-get install --no-install-recommends$packages"
    fi
    echo "installing$packages" >&2
    # Debian starts a service when it installs one; this file says no (101) while we install.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
    # shellcheck disable=SC2086  # a list of names
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $packages \
        </dev/null >&2
    # Nor at the next boot.
    for service in nginx etcd haproxy prometheus; do
        case "$packages " in
        *" $service"*)
            command -v systemctl >/dev/null 2>&1 && systemctl disable --quiet "$service" 2>/dev/null
            ;;
        esac
    done || true
}

install_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return
    cargo install --locked cargo-nextest --version "$NEXTEST" </dev/null >&2
}

install_ansible() {
    target/bench-venv/bin/ansible-playbook --version 2>/dev/null | grep -q "core $ANSIBLE" && return
    mkdir -p target
    python3 -m venv target/bench-venv
    target/bench-venv/bin/pip install --quiet --disable-pip-version-check \
        "ansible-core==$ANSIBLE" </dev/null >&2
}

install_pm2() {
    folder=target/bench-pm2
    grep -q "\"version\": \"$PM2\"" $folder/node_modules/pm2/package.json 2>/dev/null && return
    mkdir -p $folder
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix $folder "pm2@$PM2" \
        </dev/null >&2
}

install_python_packages() {
    venv=target/test-venv
    $venv/bin/python -c "from importlib.metadata import version as v
assert v('websockets') == '$WEBSOCKETS' and v('gunicorn') == '$GUNICORN'" 2>/dev/null && return
    mkdir -p target
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check \
        "websockets==$WEBSOCKETS" "gunicorn==$GUNICORN" </dev/null >&2
}

case "${1:-}" in
build | lint)
    for_build
    install_packages
    ;;
test)
    for_build
    for_test
    install_packages
    install_nextest
    install_python_packages
    ;;
bench)
    for_build
    for_bench
    install_packages
    install_ansible
    install_pm2
    ;;
*)
    fail "usage: tests/setup.sh build|test|lint|bench"
    ;;
esac
