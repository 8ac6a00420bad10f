/* Stack asymmetric numeral systems in integers: 32-bit words, a 64-bit state, 24 bits of precision.
 *
 * A table is its cumulative counts, n + 1 numbers that increase strictly from 0 to 2^24; entry i
 * has the count p = table[i + 1] - table[i], from low = table[i] on.
 *
 *     push:  if state >> 40 >= p, the state's lower word goes onto the stack;
 *            state = (state / p << 24) + low + state % p
 *     pop:   q = state mod 2^24, and i is the entry with low <= q < low + p;
 *            state = (state >> 24) * p + q - low; if that is below 2^32, a word comes from the stack
 *
 * It is a stack: what is decoded first is pushed last. Every string of words whose last is not 0 is
 * the code of something, so that a decoder ends after as many symbols as it was asked for.
 */

#ifndef ROI_ANON_ANS_H
#define ROI_ANON_ANS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#define PRECISION 24
#define ESCAPE_MIN (-32768)
#define ESCAPE_BITS 16

enum status { OK = 0, NO_MEMORY = -1, EMPTY_ENTRY = -2, NEEDLESS_ESCAPE = -3 };

typedef struct {
    uint64_t state;
    unsigned char* words; /* little-endian, the first pushed first */
    Py_ssize_t count, room;
} Writer;

typedef struct {
    uint64_t state;
    const unsigned char* words;
    Py_ssize_t left; /* words not read yet; the last of them is next */
} Reader;

static enum status write_word(Writer* writer) {
    if (writer->count == writer->room) {
        Py_ssize_t room = 2 * writer->room + 1024;
        unsigned char* words = realloc(writer->words, 4 * (size_t)room);
        if (!words) return NO_MEMORY;
        writer->words = words;
        writer->room = room;
    }
    unsigned char* word = writer->words + 4 * writer->count;
    for (int i = 0; i < 4; i++) word[i] = (unsigned char)(writer->state >> (8 * i));
    writer->state >>= 32;
    writer->count++;
    return OK;
}

static uint64_t read_word(Reader* reader) {
    const unsigned char* word = reader->words + 4 * --reader->left;
    return word[0] | (uint64_t)word[1] << 8 | (uint64_t)word[2] << 16 | (uint64_t)word[3] << 24;
}

static Reader open_reader(const Py_buffer* words) {
    Reader reader = {0, words->buf, words->len / 4};
    for (int i = 0; i < 2 && reader.left; i++)
        reader.state = reader.state << 32 | read_word(&reader);
    return reader;
}

/* What was never popped, counted in words. */
static Py_ssize_t count_left(const Reader* reader) {
    return reader->left + (reader->state != 0) + (reader->state >> 32 != 0);
}

static inline enum status push(Writer* writer, uint32_t low, uint32_t p) {
    if (p == 0) return EMPTY_ENTRY;
    if (writer->state >> (64 - PRECISION) >= p) {
        enum status status = write_word(writer);
        if (status) return status;
    }
    writer->state = (writer->state / p << PRECISION) + low + writer->state % p;
    return OK;
}

static inline uint32_t peek(const Reader* reader) {
    return (uint32_t)reader->state & ((1u << PRECISION) - 1);
}

static inline void drop(Reader* reader, uint32_t low, uint32_t p) {
    reader->state = (reader->state >> PRECISION) * p + peek(reader) - low;
    if (reader->state >> 32 == 0 && reader->left)
        reader->state = reader->state << 32 | read_word(reader);
}

/* An escaped symbol: 16 bits, all values equally likely. */
static enum status push_escaped(Writer* writer, int32_t symbol) {
    uint32_t value = ((uint32_t)symbol - (uint32_t)ESCAPE_MIN) & ((1u << ESCAPE_BITS) - 1);
    return push(writer, value << (PRECISION - ESCAPE_BITS), 1u << (PRECISION - ESCAPE_BITS));
}

static int32_t pop_escaped(Reader* reader) {
    uint32_t value = peek(reader) >> (PRECISION - ESCAPE_BITS);
    drop(reader, value << (PRECISION - ESCAPE_BITS), 1u << (PRECISION - ESCAPE_BITS));
    return (int32_t)value + ESCAPE_MIN;
}

/* Pop one entry of a table with `entries` of them. `guess`, the likeliest, is not the last. */
static inline uint32_t pop(Reader* reader, const uint32_t* table, uint32_t entries,
                           uint32_t guess) {
    uint32_t q = peek(reader);
    uint32_t first = 0;
    uint32_t end = entries;
    if (q < table[guess]) {
        end = guess;
    } else if (q < table[guess + 1]) {
        first = guess;
        end = guess + 1;
    } else {
        first = guess + 1;
    }
    while (end - first > 1) {
        uint32_t middle = first + (end - first) / 2;
        if (q < table[middle]) {
            end = middle;
        } else {
            first = middle;
        }
    }
    drop(reader, table[first], table[first + 1] - table[first]);
    return first;
}

#endif
