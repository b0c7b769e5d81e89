#!/usr/bin/env bash
# Installs SwiftShader, a Vulkan device made of software, so that the wgpu backend can be tested on a machine without a
# GPU (scripts/gpu-tests.sh wgpu). For Debian: Ubuntu's chromium is a snap without these files.
#
# It is slow: for tests of correctness with tiny tensors only. Debian's other software device, Mesa's llvmpipe
# (22.3 and 25.0), crashes in burn's sum reduction.
#
# Prints the line to put in front of a command; everything else goes to the standard error.
set -euo pipefail

readonly icd=/usr/lib/chromium/vk_swiftshader_icd.json
loader() { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; }
if [ ! -e "$icd" ] || ! loader | grep "libvulkan\.so\.1" >/dev/null; then
    command -v apt-get >/dev/null || { echo "setup-software-gpu: no apt-get here" >&2; exit 1; }
    if [ "$(id -u)" = 0 ]; then as_root=(env); else as_root=(sudo); fi
    echo "setup-software-gpu: installing chromium-common (for SwiftShader) and libvulkan1" >&2
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium-common libvulkan1 </dev/null >&2
fi
[ -e "$icd" ] || { echo "setup-software-gpu: chromium-common brought no $icd: not Debian's package?" >&2; exit 1; }
echo "VK_DRIVER_FILES=$icd"
