# Chooses the slot, for any U-Boot that has load, fatwrite and env import/export. Some packaged ones have no setexpr: counting is an if-chain.
# The state is a checksummed file on the selector, twice, written one after the other: the first copy with a good checksum counts.
# firmware/slots.py reads and writes the same files, slot_state.py says what they mean; tests/firmware/test_slots.py runs this very text over every state.
setenv bs_addr ${loadaddr}
test -n "${bs_addr}" || setenv bs_addr ${kernel_addr_r}
setenv BOOT_ORDER; setenv BOOT_A_LEFT; setenv BOOT_B_LEFT; setenv BOOT_A_GOOD; setenv BOOT_B_GOOD
setenv bs_from none
for copy in 0 1; do
  if test "${bs_from}" = "none"; then
    if load ${devtype} ${devnum}:1 ${bs_addr} bootstate.${copy}; then
      if env import -c ${bs_addr} ${filesize} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_A_GOOD BOOT_B_GOOD; then setenv bs_from ${copy}; fi
    fi
  fi
done
# choose begins
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
test -n "${BOOT_A_GOOD}" || setenv BOOT_A_GOOD 0
test -n "${BOOT_B_GOOD}" || setenv BOOT_B_GOOD 0
setenv pick
for s in ${BOOT_ORDER}; do
  if test -n "${pick}"; then true;
  elif test "${s}" = "A"; then
    if test "${BOOT_A_LEFT}" = "3"; then setenv BOOT_A_LEFT 2; setenv pick A; elif test "${BOOT_A_LEFT}" = "2"; then setenv BOOT_A_LEFT 1; setenv pick A; elif test "${BOOT_A_LEFT}" = "1"; then setenv BOOT_A_LEFT 0; setenv pick A; fi
  elif test "${s}" = "B"; then
    if test "${BOOT_B_LEFT}" = "3"; then setenv BOOT_B_LEFT 2; setenv pick B; elif test "${BOOT_B_LEFT}" = "2"; then setenv BOOT_B_LEFT 1; setenv pick B; elif test "${BOOT_B_LEFT}" = "1"; then setenv BOOT_B_LEFT 0; setenv pick B; fi
  fi
done
# No attempts left anywhere: what worked once comes first, and the other gets its turn again too.
if test -z "${pick}"; then
  setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3
  for s in ${BOOT_ORDER}; do
    if test -n "${pick}"; then true;
    elif test "${s}" = "A"; then
      if test "${BOOT_A_GOOD}" = "1"; then setenv pick A; fi
    elif test "${s}" = "B"; then
      if test "${BOOT_B_GOOD}" = "1"; then setenv pick B; fi
    fi
  done
  if test -z "${pick}"; then
    if test "${BOOT_ORDER}" = "B A"; then setenv pick B; else setenv pick A; fi
  fi
  if test "${pick}" = "A"; then setenv BOOT_A_LEFT 2; setenv BOOT_ORDER "A B"; else setenv BOOT_B_LEFT 2; setenv BOOT_ORDER "B A"; fi
fi
# choose ends
env export -c -s 0x200 ${bs_addr} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_A_GOOD BOOT_B_GOOD
# The files are there since the image was built: nothing is allocated, so nothing can fail for want of room.
fatwrite ${devtype} ${devnum}:1 ${bs_addr} bootstate.0 0x200
fatwrite ${devtype} ${devnum}:1 ${bs_addr} bootstate.1 0x200
echo "nvr: slot ${pick} (state ${bs_from}, order ${BOOT_ORDER}, left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}, good A ${BOOT_A_GOOD} B ${BOOT_B_GOOD})"
if test "${pick}" = "A"; then setenv bp 2; else setenv bp 3; fi
# No console= unless the slot says so: on boards the kernel takes it from the device tree, so one script fits every board.
setenv args
if load ${devtype} ${devnum}:${bp} ${bs_addr} args.txt; then env import -t ${bs_addr} ${filesize} args; fi
setenv bootargs "nvr.root=root${pick} rauc.slot=${pick} ${args}"
load ${devtype} ${devnum}:${bp} ${kernel_addr_r} vmlinuz || reset
setenv kernel_size ${filesize}
# A PC's kernel unpacks itself from 16 MiB upwards over some 60 MiB; U-Boot's own address for the initramfs lies in there.
if test "${arch}" = "x86"; then setenv ramdisk_addr_r 0x10000000; fi
# A Raspberry Pi's addresses are of a time of smaller kernels: Debian's is not packed and ends behind them, at 39 MiB.
if test "${board}" = "rpi"; then setenv fdt_addr_r 0x03f00000; setenv ramdisk_addr_r 0x04000000; fi
load ${devtype} ${devnum}:${bp} ${ramdisk_addr_r} initrd.img || reset
setenv rd_size ${filesize}
if test "${arch}" = "x86"; then
  zboot ${kernel_addr_r} ${kernel_size} ${ramdisk_addr_r} ${rd_size}
  reset
fi
# A board's own device tree if the slot has one, else the one U-Boot was given.
setenv fdt_use ${fdtcontroladdr}
test -n "${fdt_addr}" && setenv fdt_use ${fdt_addr}
if test -n "${fdtfile}" && load ${devtype} ${devnum}:${bp} ${fdt_addr_r} dtb/${fdtfile}; then setenv fdt_use ${fdt_addr_r}; fi
booti ${kernel_addr_r} ${ramdisk_addr_r}:${rd_size} ${fdt_use}
reset
