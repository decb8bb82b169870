// The floor for lookups: what this machine's memory takes, now, for the accesses that a lookup makes and nothing else.
//
//   memory MIB     a file in memory of that size; prints nanoseconds per slot and record, as JSON
//
// A random 8-byte slot in the first tenth, then three cache lines of the 144-byte record that it points to. "dependent":
// the next slot depends on the record; "independent": it does not, so that several are under way at once.

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 144, LOOKUPS = 1000000, ROUNDS = 5 };

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 32;
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// Inlined with a constant, or both cases would carry the dependency.
static inline __attribute__((always_inline)) double best_ns(const uint8_t *bytes, uint64_t slots, int dependent) {
    const uint64_t *table = (const uint64_t *)bytes;
    double best = 1e9;
    uint64_t state = 1, sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int i = 0; i < LOOKUPS; i++) {
            const uint8_t *record = bytes + table[next_random(&state) * slots >> 32];
            uint64_t found = (uint64_t)record[0] + record[64] + record[128];
            sum += found;
            if (dependent) state += found & 1;
        }
        double took = (now_ns() - start) / LOOKUPS;
        if (took < best) best = took;
    }
    return sum ? best : 0;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    size_t size = strtoull(arguments[1], NULL, 10) << 20;
    int fd = memfd_create("floor", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size)) return 1;
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) return 1;
    uint64_t slots = size / 10 / sizeof(uint64_t), first = slots * sizeof(uint64_t), state = 7;
    uint64_t records = (size - first) / RECORD_BYTES - 1;
    for (uint64_t i = 0; i < slots; i++)
        ((uint64_t *)bytes)[i] = first + (next_random(&state) * records >> 32) * RECORD_BYTES;
    for (size_t i = first; i < size; i++) bytes[i] = (uint8_t)(i * 7 + 1);
    double independent = best_ns(bytes, slots, 0), dependent = best_ns(bytes, slots, 1);
    printf("{\"independent_ns\": %.1f, \"dependent_ns\": %.1f}\n", independent, dependent);
    return 0;
}
