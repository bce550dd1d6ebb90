# Sourced by the other scripts: messages, network namespaces, ending processes.
# shellcheck shell=bash

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# add_hugepages: reserves huge pages for the tests that use them. drop_hugepages gives them back.
pages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages_added=0
add_hugepages() {
    is_root && [ -w "$pages" ] || return 0
    local before after
    before=$(cat "$pages")
    echo $((before + 192)) >"$pages" 2>/dev/null || true
    after=$(cat "$pages")
    pages_added=$((after - before))
    if [ "$pages_added" -lt 192 ]; then
        say "hugepages: got $pages_added of 192"
    fi
}
drop_hugepages() {
    [ "$pages_added" -le 0 ] || echo $(($(cat "$pages") - pages_added)) >"$pages"
}

# make_pair NAME [MTU]: creates two namespaces joined by a veth pair. NAME-a has lg0, for the
# appliance; NAME-b has lg1 with 198.18.0.2/24 and fd00:18::2/64, for the kernel's stack. Interface
# names are local to the namespaces, so any number of pairs can coexist.
make_pair() {
    local a="$1-a" b="$1-b" mtu="${2:-1500}"
    ip netns add "$a"
    ip netns add "$b"
    ip -n "$a" link add lg0 mtu "$mtu" type veth peer name lg1 mtu "$mtu" netns "$b"
    # The appliance owns this end: the kernel must not send anything on it.
    ip netns exec "$a" sh -c \
        '[ ! -d /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/lg0/disable_ipv6'
    # The appliance's driver gets frames as they are on the wire: not merged, with checksums.
    ip netns exec "$a" ethtool -K lg0 tx off rx off tso off gso off gro off >/dev/null
    ip netns exec "$b" ethtool -K lg1 tx off tso off gso off gro off >/dev/null
    ip -n "$b" addr add 198.18.0.2/24 dev lg1
    ip -n "$b" addr add fd00:18::2/64 dev lg1 nodad
    ip -n "$a" link set lo up
    ip -n "$b" link set lo up
    ip -n "$a" link set lg0 up
    ip -n "$b" link set lg1 up
}

# drop_pair NAME: removes the namespaces of make_pair, also if they are incomplete.
drop_pair() {
    ip netns del "$1-a" 2>/dev/null || true
    ip netns del "$1-b" 2>/dev/null || true
}

# end_process PID: ends a process that we started: SIGTERM twice (drain, then stop), then SIGKILL.
end_process() {
    local pid="$1" signal
    for signal in TERM TERM KILL; do
        kill -s "$signal" "$pid" 2>/dev/null || return 0
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || return 0
            sleep 0.1
        done
    done
}
