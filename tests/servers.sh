#!/bin/sh
# Install the servers that the tests meet for real, where that may be done; say what is left out where it may not.
# On CI (CI=true) a missing server is a failure.
set -u

missing=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v influxd >/dev/null 2>&1 || missing="$missing influxdb"
command -v mosquitto_sub >/dev/null 2>&1 || missing="$missing mosquitto-clients"
command -v prometheus >/dev/null 2>&1 || missing="$missing prometheus"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
[ -x /sbin/mkfs.ext4 ] || [ -x /usr/sbin/mkfs.ext4 ] || missing="$missing e2fsprogs"
postgres() { command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb; }
postgres >/dev/null 2>&1 || missing="$missing postgresql"
# the build takes the browser without windows, which costs half; elsewhere one that is there is good enough
browser() { command -v chromium-headless-shell || { [ "${CI:-}" != "true" ] && command -v chromium; }; }
browser >/dev/null 2>&1 || missing="$missing chromium-headless-shell"
fc-list 2>/dev/null | grep -qi 'noto sans cjk' || missing="$missing fonts-noto-cjk"

if [ -n "$missing" ] && command -v apt-get >/dev/null 2>&1; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi
    fi
    if [ "$as_root" != "no" ]; then
        echo "安装测试所需服务 installing servers for the tests:$missing"
        export DEBIAN_FRONTEND=noninteractive
        $as_root apt-get update -qq
        apt-cache show chromium-headless-shell >/dev/null 2>&1 ||
            missing=$(echo "$missing" | sed s/chromium-headless-shell/chromium/)
        # shellcheck disable=SC2086
        $as_root apt-get install -y -qq --no-install-recommends $missing fontconfig >/dev/null
        # the packages start servers of their own; the tests start theirs
        for service in mosquitto influxdb prometheus; do
            $as_root sh -c "command -v systemctl >/dev/null && systemctl disable --now $service" >/dev/null 2>&1 || true
        done
        case "$missing" in *postgresql*) # one that was here before may be somebody's
            $as_root sh -c 'if command -v systemctl; then systemctl disable --now postgresql; else service postgresql stop; fi' \
                >/dev/null 2>&1 || true ;;
        esac
    fi
fi

left_out=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || left_out="$left_out mosquitto"
for program in influxd prometheus; do
    command -v "$program" >/dev/null 2>&1 || left_out="$left_out $program"
done
command -v chromium-headless-shell >/dev/null 2>&1 || command -v chromium >/dev/null 2>&1 || left_out="$left_out chromium"
postgres >/dev/null 2>&1 || left_out="$left_out postgresql"
if [ -n "$left_out" ]; then
    if [ "${CI:-}" = "true" ]; then
        echo "CI 缺少服务 a server the tests need is missing:$left_out" >&2
        exit 1
    fi
    echo "缺少以下服务，相应测试将跳过 tests that need these are left out:$left_out" >&2
fi
exit 0
