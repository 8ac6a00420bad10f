/* The entropy coders of entropy.py and contexts.py, on the stack of _ans.h.
 *
 * These two are the only callers, and check what the numbers mean. Here everything is checked that
 * keeps memory safe, whatever is passed in. The limited API has buffers from Python 3.11 on only,
 * so this is compiled for each version.
 */

#include "_ans.h"

#define LARGEST_TABLE 65537
#define LARGEST_SIDE 65536
#define MAGNITUDE_MAX 63
#define A_COUNT 256
#define B_COUNT 1024

/* One table for each channel; the last entry is the tail, whose symbols follow after the channel */

static inline uint32_t entry_of(int32_t symbol, int32_t offset, uint32_t tail) {
    int64_t entry = (int64_t)symbol - offset;
    return entry < 0 || entry >= tail ? tail : (uint32_t)entry;
}

static enum status push_channel(Writer* writer, const int32_t* row, Py_ssize_t size,
                                const uint32_t* table, uint32_t tail, int32_t offset) {
    enum status status = OK;
    for (Py_ssize_t i = size; i-- > 0 && !status;) {
        if (entry_of(row[i], offset, tail) == tail) status = push_escaped(writer, row[i]);
    }
    for (Py_ssize_t i = size; i-- > 0 && !status;) {
        uint32_t entry = entry_of(row[i], offset, tail);
        status = push(writer, table[entry], table[entry + 1] - table[entry]);
    }
    return status;
}

static void pop_channel(Reader* reader, int32_t* row, Py_ssize_t size, const uint32_t* table,
                        uint32_t tail, int32_t offset) {
    uint32_t escapes = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        uint32_t entry = pop(reader, table, tail + 1, (uint32_t)-offset);
        escapes |= entry == tail;
        row[i] = (int32_t)entry + offset;
    }
    for (Py_ssize_t i = 0; i < size && escapes; i++) {
        if (row[i] == (int32_t)tail + offset) row[i] = pop_escaped(reader);
    }
}

/* Spatial contexts: the walk over a latent that encoder and decoder share */

typedef struct {
    Py_ssize_t channels, height, width;
    const uint8_t *a_buckets, *b_buckets;
    uint32_t b_size;
    uint32_t*
        energy; /* [height + 2, width + 2]: magnitudes of all channels before, a margin of 0 */
    uint8_t* magnitude; /* [height + 1, width + 2]: of this channel, a margin of 0 */
    uint8_t* b;         /* [height, width]: the energy's bucket */
} Walk;

static enum status start_walk(Walk* walk) {
    size_t rows = (size_t)walk->height;
    size_t columns = (size_t)walk->width;
    walk->energy = calloc((rows + 2) * (columns + 2), sizeof(uint32_t));
    walk->magnitude = calloc((rows + 1) * (columns + 2), 1);
    walk->b = malloc(rows * columns);
    return walk->energy && walk->magnitude && walk->b ? OK : NO_MEMORY;
}

static void end_walk(Walk* walk) {
    free(walk->energy);
    free(walk->magnitude);
    free(walk->b);
}

/* The buckets of b = min(2 e + e north, south, west and east, 1023). */
static void start_channel(Walk* walk) {
    Py_ssize_t stride = walk->width + 2;
    uint8_t* b = walk->b;
    for (Py_ssize_t y = 0; y < walk->height; y++) {
        const uint32_t* e = walk->energy + (y + 1) * stride + 1;
        for (Py_ssize_t x = 0; x < walk->width; x++, e++) {
            uint32_t sum = 2 * e[0] + e[-stride] + e[stride] + e[-1] + e[1];
            *b++ = walk->b_buckets[sum < B_COUNT ? sum : B_COUNT - 1];
        }
    }
}

static void end_channel(Walk* walk) {
    Py_ssize_t stride = walk->width + 2;
    for (Py_ssize_t i = stride; i < (walk->height + 1) * stride; i++)
        walk->energy[i] += walk->magnitude[i];
}

/* The number of the context at one place, from a = min(2 |W| + 2 |N| + |NW| + |NE|, 255) and b. */
static inline uint32_t context_at(const Walk* walk, Py_ssize_t y, Py_ssize_t x) {
    const uint8_t* above = walk->magnitude + y * (walk->width + 2) + x + 1;
    uint32_t west = above[walk->width + 1];
    uint32_t a = 2 * west + 2 * above[0] + above[-1] + above[1];
    return walk->a_buckets[a < A_COUNT ? a : A_COUNT - 1] * walk->b_size +
           walk->b[y * walk->width + x];
}

static inline void note_symbol(Walk* walk, Py_ssize_t y, Py_ssize_t x, int32_t symbol) {
    uint32_t magnitude = symbol < 0 ? 0u - (uint32_t)symbol : (uint32_t)symbol;
    uint8_t clamped = magnitude < MAGNITUDE_MAX ? (uint8_t)magnitude : MAGNITUDE_MAX;
    walk->magnitude[(y + 1) * (walk->width + 2) + x + 1] = clamped;
}

static void number_all(Walk* walk, const int32_t* symbols, uint16_t* numbers) {
    for (Py_ssize_t c = 0; c < walk->channels; c++) {
        start_channel(walk);
        for (Py_ssize_t y = 0; y < walk->height; y++) {
            for (Py_ssize_t x = 0; x < walk->width; x++) {
                *numbers++ = (uint16_t)context_at(walk, y, x);
                note_symbol(walk, y, x, *symbols++);
            }
        }
        end_channel(walk);
    }
}

/* The tables that contexts share: entries for -radius to radius, the last one for an escape */

typedef struct {
    const uint32_t* cumulative; /* [count, 2 radius + 3] */
    const uint8_t* lookup;      /* [channels, contexts]: which table */
    Py_ssize_t contexts;
    uint32_t radius;
} Shared;

static enum status push_all(Writer* writer, const Shared* shared, const Walk* walk,
                            const int32_t* symbols, const uint16_t* numbers) {
    Py_ssize_t plane = walk->height * walk->width;
    uint32_t tail = 2 * shared->radius + 1;
    enum status status = OK;
    for (Py_ssize_t c = walk->channels; c-- > 0 && !status;) {
        const uint8_t* lookup = shared->lookup + c * shared->contexts;
        for (Py_ssize_t i = (c + 1) * plane; i-- > c * plane && !status;) {
            const uint32_t* table = shared->cumulative + lookup[numbers[i]] * (size_t)(tail + 2);
            uint32_t entry = entry_of(symbols[i], -(int32_t)shared->radius, tail);
            if (entry == tail) status = push_escaped(writer, symbols[i]);
            if (!status) status = push(writer, table[entry], table[entry + 1] - table[entry]);
        }
    }
    return status;
}

static enum status pop_all(Reader* reader, const Shared* shared, Walk* walk, int32_t* symbols) {
    int32_t radius = (int32_t)shared->radius;
    uint32_t tail = 2 * shared->radius + 1;
    for (Py_ssize_t c = 0; c < walk->channels; c++) {
        const uint8_t* lookup = shared->lookup + c * shared->contexts;
        start_channel(walk);
        for (Py_ssize_t y = 0; y < walk->height; y++) {
            for (Py_ssize_t x = 0; x < walk->width; x++) {
                size_t chosen = lookup[context_at(walk, y, x)];
                const uint32_t* table = shared->cumulative + chosen * (tail + 2);
                uint32_t entry = pop(reader, table, tail + 1, shared->radius);
                int32_t symbol = (int32_t)entry - radius;
                if (entry == tail) {
                    symbol = pop_escaped(reader);
                    if (symbol >= -radius && symbol <= radius) return NEEDLESS_ESCAPE;
                }
                note_symbol(walk, y, x, symbol);
                *symbols++ = symbol;
            }
        }
        end_channel(walk);
    }
    return OK;
}

/* Python's side */

static int check_bytes(const Py_buffer* buffer, const char* name, Py_ssize_t count, size_t item) {
    if ((size_t)buffer->len / item != (size_t)count || (size_t)buffer->len % item) {
        PyErr_Format(PyExc_ValueError, "%s: got %zd bytes, must be %zd of %zd bytes", name,
                     buffer->len, count, (Py_ssize_t)item);
        return 0;
    }
    if ((uintptr_t)buffer->buf % item) {
        PyErr_Format(PyExc_ValueError, "%s: got an address that is no multiple of %zd", name,
                     (Py_ssize_t)item);
        return 0;
    }
    return 1;
}

static uint8_t largest(const uint8_t* values, Py_ssize_t count) {
    uint8_t found = 0;
    for (Py_ssize_t i = 0; i < count; i++) found = values[i] > found ? values[i] : found;
    return found;
}

static int check_words(const Py_buffer* words) {
    if (words->len % 4 == 0) return 1;
    PyErr_Format(PyExc_ValueError, "words: got %zd bytes, must be a multiple of 4", words->len);
    return 0;
}

static void release(Py_buffer* buffers, int count) {
    for (int i = 0; i < count; i++) {
        if (buffers[i].obj) PyBuffer_Release(&buffers[i]);
    }
}

static PyObject* finish_writing(Writer* writer, enum status status) {
    while (!status && writer->state) status = write_word(writer);
    PyObject* result = NULL;
    if (status == NO_MEMORY) {
        PyErr_NoMemory();
    } else if (status) {
        PyErr_SetString(PyExc_ValueError, "tables: got an entry of count 0, must be at least 1");
    } else {
        result = PyBytes_FromStringAndSize((const char*)writer->words, 4 * writer->count);
    }
    free(writer->words);
    return result;
}

/* Buffers: coded uint8 [C], cumulative uint32 [C, L], length int32 [C], offset int32 [C]. */
static int check_channels(const Py_buffer* tables, const Py_buffer* symbols, Py_ssize_t* size) {
    Py_ssize_t channels = tables[0].len;
    Py_ssize_t row = channels ? tables[1].len / 4 / channels : 0;
    *size = channels ? symbols->len / 4 / channels : 0;
    if (!check_bytes(&tables[1], "cumulative", row * channels, 4) ||
        !check_bytes(&tables[2], "length", channels, 4) ||
        !check_bytes(&tables[3], "offset", channels, 4) ||
        !check_bytes(symbols, "symbols", *size * channels, 4)) {
        return 0;
    }
    const int32_t* length = tables[2].buf;
    const int32_t* offset = tables[3].buf;
    for (Py_ssize_t c = 0; c < channels; c++) {
        if (length[c] < 3 || length[c] > row || length[c] > LARGEST_TABLE) {
            PyErr_Format(PyExc_ValueError, "length[%zd]: got %d, must be from 3 to %zd", c,
                         (int)length[c], row < LARGEST_TABLE ? row : LARGEST_TABLE);
            return 0;
        }
        if (offset[c] > 0 || offset[c] < 3 - length[c]) {
            PyErr_Format(PyExc_ValueError, "offset[%zd]: got %d, must be from %d to 0", c,
                         (int)offset[c], (int)(3 - length[c]));
            return 0;
        }
    }
    return 1;
}

static PyObject* encode_channels(PyObject* module, PyObject* args) {
    Py_buffer b[5] = {{0}};
    Py_ssize_t size;
    PyObject* result = NULL;
    if (PyArg_ParseTuple(args, "y*y*y*y*y*", &b[0], &b[1], &b[2], &b[3], &b[4]) &&
        check_channels(b + 1, &b[0], &size)) {
        const uint8_t* coded = b[1].buf;
        const int32_t* length = b[3].buf;
        const int32_t* offset = b[4].buf;
        Py_ssize_t row = b[1].len ? b[2].len / 4 / b[1].len : 0;
        Writer writer = {0};
        enum status status = OK;
        Py_BEGIN_ALLOW_THREADS for (Py_ssize_t c = b[1].len; c-- > 0 && !status;) {
            if (!coded[c]) continue;
            status = push_channel(&writer, (const int32_t*)b[0].buf + c * size, size,
                                  (const uint32_t*)b[2].buf + c * row, (uint32_t)length[c] - 2,
                                  offset[c]);
        }
        Py_END_ALLOW_THREADS result = finish_writing(&writer, status);
    }
    release(b, 5);
    return result;
}

static PyObject* decode_channels(PyObject* module, PyObject* args) {
    Py_buffer b[6] = {{0}};
    Py_ssize_t size;
    PyObject* result = NULL;
    if (PyArg_ParseTuple(args, "y*y*y*y*y*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) &&
        check_words(&b[0]) && check_channels(b + 1, &b[5], &size)) {
        const uint8_t* coded = b[1].buf;
        const int32_t* length = b[3].buf;
        const int32_t* offset = b[4].buf;
        Py_ssize_t row = b[1].len ? b[2].len / 4 / b[1].len : 0;
        Reader reader = open_reader(&b[0]);
        Py_BEGIN_ALLOW_THREADS for (Py_ssize_t c = 0; c < b[1].len; c++) {
            if (!coded[c]) continue;
            pop_channel(&reader, (int32_t*)b[5].buf + c * size, size,
                        (const uint32_t*)b[2].buf + c * row, (uint32_t)length[c] - 2, offset[c]);
        }
        Py_END_ALLOW_THREADS result = PyLong_FromSsize_t(count_left(&reader));
    }
    release(b, 6);
    return result;
}

/* Buffers: lookup uint8 [C, contexts], cumulative uint32 [T, 2 radius + 3], a_buckets uint8 [256],
 * b_buckets uint8 [1024]. */
static int check_walk(Walk* walk, const Py_buffer* symbols, const Py_buffer* buckets) {
    if (walk->height < 1 || walk->height > LARGEST_SIDE || walk->width < 1 ||
        walk->width > LARGEST_SIDE) {
        PyErr_Format(PyExc_ValueError, "size: got %zd x %zd, must be from 1 to %d", walk->height,
                     walk->width, LARGEST_SIDE);
        return 0;
    }
    Py_ssize_t plane = walk->height * walk->width;
    walk->channels = symbols->len / 4 / plane;
    if (!check_bytes(symbols, "symbols", walk->channels * plane, 4) ||
        !check_bytes(&buckets[0], "a_buckets", A_COUNT, 1) ||
        !check_bytes(&buckets[1], "b_buckets", B_COUNT, 1)) {
        return 0;
    }
    walk->a_buckets = buckets[0].buf;
    walk->b_buckets = buckets[1].buf;
    walk->b_size = (uint32_t)largest(walk->b_buckets, B_COUNT) + 1;
    return 1;
}

static int check_shared(Shared* shared, const Walk* walk, const Py_buffer* tables,
                        Py_ssize_t radius) {
    if (radius < 0 || radius >= -ESCAPE_MIN) {
        PyErr_Format(PyExc_ValueError, "radius: got %zd, must be from 0 to %d", radius,
                     -ESCAPE_MIN - 1);
        return 0;
    }
    shared->lookup = tables[0].buf;
    shared->cumulative = tables[1].buf;
    shared->radius = (uint32_t)radius;
    shared->contexts = ((Py_ssize_t)largest(walk->a_buckets, A_COUNT) + 1) * walk->b_size;
    Py_ssize_t columns = 2 * radius + 3;
    Py_ssize_t count = tables[1].len / 4 / columns;
    if (!check_bytes(&tables[0], "lookup", walk->channels * shared->contexts, 1) ||
        !check_bytes(&tables[1], "cumulative", count * columns, 4)) {
        return 0;
    }
    if (tables[0].len && largest(shared->lookup, tables[0].len) >= count) {
        PyErr_Format(PyExc_ValueError, "lookup: got a table above %zd", count - 1);
        return 0;
    }
    return 1;
}

static PyObject* encode_contexts(PyObject* module, PyObject* args) {
    Py_buffer b[5] = {{0}};
    Walk walk = {0};
    Shared shared;
    Py_ssize_t radius;
    PyObject* result = NULL;
    if (PyArg_ParseTuple(args, "y*y*y*y*y*nnn", &b[0], &b[1], &b[2], &b[3], &b[4], &radius,
                         &walk.height, &walk.width) &&
        check_walk(&walk, &b[0], b + 3) && check_shared(&shared, &walk, b + 1, radius)) {
        Writer writer = {0};
        uint16_t* numbers = malloc((size_t)b[0].len / 2 + 1);
        enum status status = numbers ? start_walk(&walk) : NO_MEMORY;
        Py_BEGIN_ALLOW_THREADS if (!status) {
            number_all(&walk, b[0].buf, numbers);
            status = push_all(&writer, &shared, &walk, b[0].buf, numbers);
        }
        end_walk(&walk);
        free(numbers);
        Py_END_ALLOW_THREADS result = finish_writing(&writer, status);
    }
    release(b, 5);
    return result;
}

static PyObject* decode_contexts(PyObject* module, PyObject* args) {
    Py_buffer b[6] = {{0}};
    Walk walk = {0};
    Shared shared;
    Py_ssize_t radius;
    PyObject* result = NULL;
    if (PyArg_ParseTuple(args, "y*y*y*y*y*nnnw*", &b[0], &b[1], &b[2], &b[3], &b[4], &radius,
                         &walk.height, &walk.width, &b[5]) &&
        check_words(&b[0]) && check_walk(&walk, &b[5], b + 3) &&
        check_shared(&shared, &walk, b + 1, radius)) {
        Reader reader = open_reader(&b[0]);
        enum status status = start_walk(&walk);
        Py_BEGIN_ALLOW_THREADS if (!status) status = pop_all(&reader, &shared, &walk, b[5].buf);
        end_walk(&walk);
        Py_END_ALLOW_THREADS if (status == NO_MEMORY) {
            PyErr_NoMemory();
        }
        else {
            result = PyLong_FromSsize_t(status ? -1 : count_left(&reader));
        }
    }
    release(b, 6);
    return result;
}

static PyObject* number_contexts(PyObject* module, PyObject* args) {
    Py_buffer b[4] = {{0}};
    Walk walk = {0};
    PyObject* result = NULL;
    if (PyArg_ParseTuple(args, "y*y*y*nnw*", &b[0], &b[1], &b[2], &walk.height, &walk.width,
                         &b[3]) &&
        check_walk(&walk, &b[0], b + 1) && check_bytes(&b[3], "numbers", b[0].len / 4, 2)) {
        enum status status = start_walk(&walk);
        Py_BEGIN_ALLOW_THREADS if (!status) number_all(&walk, b[0].buf, b[3].buf);
        end_walk(&walk);
        Py_END_ALLOW_THREADS result = status ? PyErr_NoMemory() : Py_NewRef(Py_None);
    }
    release(b, 4);
    return result;
}

static PyMethodDef methods[] = {
    {"encode_channels", encode_channels, METH_VARARGS,
     "encode_channels(symbols, coded, cumulative, length, offset) -> words"},
    {"decode_channels", decode_channels, METH_VARARGS,
     "decode_channels(words, coded, cumulative, length, offset, symbols) -> words left over"},
    {"encode_contexts", encode_contexts, METH_VARARGS,
     "encode_contexts(symbols, lookup, cumulative, a_buckets, b_buckets, radius, height, width) -> "
     "words"},
    {"decode_contexts", decode_contexts, METH_VARARGS,
     "decode_contexts(words, lookup, cumulative, a_buckets, b_buckets, radius, height, width, "
     "symbols)\n"
     "-> words left over, or -1 where an escaped symbol lies within the tables"},
    {"number_contexts", number_contexts, METH_VARARGS,
     "number_contexts(symbols, a_buckets, b_buckets, height, width, numbers)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_ans",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__ans(void) {
    return PyModuleDef_Init(&definition);
}
