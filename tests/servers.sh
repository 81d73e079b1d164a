#!/bin/sh
# Install the servers that the tests meet for real, where that may be done; say what is left out where it may not.
# On CI (CI=true) a missing server is a failure.
set -u

missing=""
for program in mosquitto chromium; do
    command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
fc-list 2>/dev/null | grep -qi 'noto sans cjk' || missing="$missing fonts-noto-cjk"

if [ -n "$missing" ] && command -v apt-get >/dev/null 2>&1; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi
    fi
    if [ "$as_root" != "no" ]; then
        echo "安装测试所需服务 installing servers for the tests:$missing"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing fontconfig >/dev/null
        # the package starts a broker of its own; the tests start theirs
        $as_root sh -c 'command -v systemctl >/dev/null && systemctl disable --now mosquitto' >/dev/null 2>&1 || true
    fi
fi

left_out=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || left_out="$left_out mosquitto"
command -v chromium >/dev/null 2>&1 || left_out="$left_out chromium"
if [ -n "$left_out" ]; then
    if [ "${CI:-}" = "true" ]; then
        echo "CI 缺少服务 a server the tests need is missing:$left_out" >&2
        exit 1
    fi
    echo "缺少以下服务，相应测试将跳过 tests that need these are left out:$left_out" >&2
fi
exit 0
