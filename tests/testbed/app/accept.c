/* The answer to Sec-WebSocket-Key (RFC 6455, section 4.2.2): SHA-1 (FIPS 180-4) and base64. */
#include "app.h"

#include <string.h>

static uint32_t turn(uint32_t value, int by) { return value << by | value >> (32 - by); }

static void add_block(uint32_t state[5], const unsigned char block[64]) {
    static const uint32_t constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++)
        w[i] = i < 16 ? (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3]
                      : turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t next = turn(a, 5) + f + e + constant[i / 20] + w[i];
        e = d, d = c, c = turn(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

void accept_key(const char *key, size_t size, char answer[29]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char data[128] = {0}, digest[21] = {0};
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    if (size > 64) size = 64;
    memcpy(data, key, size);
    memcpy(data + size, guid, 36);
    size += 36;
    data[size] = 0x80;
    size_t blocks = size + 9 > 64 ? 2 : 1, bits = size * 8;
    data[blocks * 64 - 2] = bits >> 8, data[blocks * 64 - 1] = bits & 0xff;
    for (size_t i = 0; i < blocks; i++) add_block(state, data + i * 64);
    for (int i = 0; i < 20; i++) digest[i] = state[i / 4] >> (24 - i % 4 * 8);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) answer[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    answer[27] = '=';
    answer[28] = 0;
}
