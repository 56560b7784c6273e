/* CRC-32C (RFC 3720, B.4): by the processor's own instruction where it has one, else by tables.

   See nvr/crc.py. Which of the two it is was chosen when the module was loaded. */

#include "fast.h"

#define POLYNOMIAL 0x82F63B78u
#define LANE_BYTES 448 /* three lanes at once hide the latency of the instruction; an RTP packet is about 1400 bytes */

static uint32_t crc_table[8][256];
static uint32_t lane_table[4][256]; /* what LANE_BYTES zero bytes do to each byte of a CRC */

static void
crc_make_tables(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        crc_table[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            crc_table[k][n] = crc_table[k - 1][n] >> 8 ^ crc_table[0][crc_table[k - 1][n] & 255];
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t crc = n << 8 * byte;
            for (int zero = 0; zero < LANE_BYTES; zero++)
                crc = crc >> 8 ^ crc_table[0][crc & 255];
            lane_table[byte][n] = crc;
        }
}

static inline uint32_t
load32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t
crc_by_table(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low = crc ^ load32(at), high = load32(at + 4);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^ crc_table[4][low >> 24]
            ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^ crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    for (; size; at++, size--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *at) & 255];
    return crc;
}

static inline uint32_t
lane_shift(uint32_t crc)
{
    return lane_table[0][crc & 255] ^ lane_table[1][crc >> 8 & 255] ^ lane_table[2][crc >> 16 & 255] ^ lane_table[3][crc >> 24];
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HAVE_CRC_INSTRUCTION "sse4.2"
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC64(crc, at) ((uint32_t)_mm_crc32_u64((crc), load64(at)))
#define CRC8(crc, at) (_mm_crc32_u8((crc), *(at)))
static int has_crc_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#define HAVE_CRC_INSTRUCTION "armv8"
#if defined(__clang__)
#define CRC_TARGET __attribute__((target("crc")))
#else
#define CRC_TARGET __attribute__((target("+crc")))
#endif
#define CRC64(crc, at) (__crc32cd((crc), load64(at)))
#define CRC8(crc, at) (__crc32cb((crc), *(at)))
static int has_crc_instruction(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#endif

#ifdef HAVE_CRC_INSTRUCTION
static inline uint64_t
load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8); /* both machines are little-endian here */
    return value;
}

CRC_TARGET static uint32_t
crc_by_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 3 * LANE_BYTES; at += 3 * LANE_BYTES, size -= 3 * LANE_BYTES) {
        uint32_t one = crc, two = 0, three = 0;
        for (size_t k = 0; k < LANE_BYTES; k += 8) {
            one = CRC64(one, at + k);
            two = CRC64(two, at + LANE_BYTES + k);
            three = CRC64(three, at + 2 * LANE_BYTES + k);
        }
        crc = lane_shift(lane_shift(one) ^ two) ^ three;
    }
    for (; size >= 8; at += 8, size -= 8)
        crc = CRC64(crc, at);
    for (; size; at++, size--)
        crc = CRC8(crc, at);
    return crc;
}
#endif

uint32_t (*crc_update)(uint32_t, const uint8_t *, size_t) = crc_by_table;
const char *crc_kind = "table";

/* (data, value=0): of all bytes, continued from `value`; see nvr/crc.py. */
PyObject *
crc32c(PyObject *module, PyObject *args)
{
    Py_buffer data;
    unsigned long value = 0;
    if (!PyArg_ParseTuple(args, "y*|k:crc32c", &data, &value))
        return NULL;
    uint32_t crc = ~(uint32_t)value;
    if (data.len < 1 << 16)
        crc = crc_update(crc, data.buf, (size_t)data.len);
    else {
        Py_BEGIN_ALLOW_THREADS
        crc = crc_update(crc, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong((uint32_t)~crc);
}

void
crc_choose(void)
{
    crc_make_tables();
#ifdef HAVE_CRC_INSTRUCTION
    if (has_crc_instruction()) {
        crc_update = crc_by_instruction;
        crc_kind = HAVE_CRC_INSTRUCTION;
    }
#endif
}
