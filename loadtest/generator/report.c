// Counting: latencies in a log-linear histogram, verdicts by revision, CPU time of both sides, and the JSON report.

#include "generator.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// --- Histogram: 128 steps for each power of two, so a value is known to 0.8 % -----------------------------------------

static unsigned bucket_of(uint64_t value) {
    if (value < 128) return (unsigned)value;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value);
    return (exponent - 6) * 128 + (unsigned)(value >> (exponent - 7)) - 128;
}

static uint64_t top_of(unsigned bucket) {
    if (bucket < 128) return bucket;
    unsigned exponent = bucket / 128 + 6;
    return (((uint64_t)(bucket % 128) + 129) << (exponent - 7)) - 1;
}

static double percentile_us(double share) {
    uint64_t rank = (uint64_t)(share * (double)totals.latency_count), seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_SIZE; bucket++) {
        seen += totals.histogram[bucket];
        if (seen > rank) {
            uint64_t top = top_of(bucket);
            return (double)(top < totals.latency_max_ns ? top : totals.latency_max_ns) / 1e3;
        }
    }
    return (double)totals.latency_max_ns / 1e3;
}

// --- Answers ----------------------------------------------------------------------------------------------------------

static struct revision *revision_row(int64_t number) {
    static unsigned last;
    if (last < totals.revision_count && totals.revisions[last].number == number) return &totals.revisions[last];
    for (unsigned i = 0; i < totals.revision_count; i++)
        if (totals.revisions[i].number == number) return &totals.revisions[last = i];
    if (totals.revision_count == REVISIONS_MAX) return NULL;
    last = totals.revision_count++;
    totals.revisions[last].number = number;
    return &totals.revisions[last];
}

static void count_answer(struct connection *connection, const struct outcome *outcome) {
    unsigned verdict = (unsigned)outcome->verdict < VERDICTS ? (unsigned)outcome->verdict : VERDICTS - 1;
    totals.verdicts[verdict]++;
    if (options.expect >= 0 && options.expect != outcome->verdict && !outcome->canary) totals.errors[ERROR_VERDICT]++;
    if (outcome->revision < 0) return;
    if (outcome->revision < connection->revision_seen) totals.backward++;
    connection->revision_seen = outcome->revision;
    struct revision *row = revision_row(outcome->revision);
    if (row) (outcome->canary ? row->canaries : row->all)[verdict]++;
}

void count_outcome(struct connection *connection, const struct outcome *outcome) {
    if (outcome->planned_ns >= totals.start_ns && (!totals.end_ns || outcome->planned_ns < totals.end_ns)) {
        uint64_t latency_ns = (uint64_t)(outcome->now_ns - outcome->planned_ns);
        totals.histogram[bucket_of(latency_ns)]++;
        totals.latency_count++;
        totals.latency_sum_ns += latency_ns;
        if (latency_ns > totals.latency_max_ns) totals.latency_max_ns = latency_ns;
    }
    if (!totals.end_ns) totals.calls++;
    totals.statuses[(unsigned)outcome->status < GRPC_STATUSES ? outcome->status : 2]++;
    if (outcome->status != 0) totals.errors[ERROR_STATUS]++;
    else if (outcome->verdict < 0) totals.errors[ERROR_MESSAGE]++;
    else count_answer(connection, outcome);
}

// --- CPU time ---------------------------------------------------------------------------------------------------------

int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint64_t own_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

// Time on a CPU of all threads of a process: the first field of their schedstat. User and kernel, exact to the tick.
static uint64_t process_cpu_ns(int pid) {
    char name[320];
    snprintf(name, sizeof name, "/proc/%d/task", pid);
    DIR *folder = opendir(name);
    if (!folder) fail("no process %d", pid);
    uint64_t sum = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *file = fopen(name, "r");
        uint64_t ran_ns = 0;
        if (file && fscanf(file, "%" SCNu64, &ran_ns) == 1) sum += ran_ns;
        if (file) fclose(file);
    }
    closedir(folder);
    return sum;
}

// --- The measured window ----------------------------------------------------------------------------------------------

void open_window(int64_t now_ns) {
    memset(&totals, 0, sizeof totals);
    totals.start_ns = now_ns;
    totals.server_cpu_ns = options.server_pid ? process_cpu_ns(options.server_pid) : 0;
    totals.own_cpu_ns = own_cpu_ns();
}

void close_window(int64_t now_ns) {
    totals.end_ns = now_ns;
    totals.own_cpu_ns = own_cpu_ns() - totals.own_cpu_ns;
    if (options.server_pid) totals.server_cpu_ns = process_cpu_ns(options.server_pid) - totals.server_cpu_ns;
}

// --- The report -------------------------------------------------------------------------------------------------------

static void print_counts(FILE *out, const char *name, const uint64_t *counts, unsigned size) {
    const char *comma = "";
    fprintf(out, "\"%s\": {", name);
    for (unsigned i = 0; i < size; i++) {
        if (!counts[i]) continue;
        fprintf(out, "%s\"%u\": %" PRIu64, comma, i, counts[i]);
        comma = ", ";
    }
    fputs("}", out);
}

static void print_revisions(FILE *out) {
    fputs("\"revisions\": [", out);
    for (unsigned i = 0; i < totals.revision_count; i++) {
        fprintf(out, "%s{\"revision\": %" PRId64 ", ", i ? ", " : "", totals.revisions[i].number);
        print_counts(out, "verdicts", totals.revisions[i].all, VERDICTS);
        fputs(", ", out);
        print_counts(out, "canaries", totals.revisions[i].canaries, VERDICTS);
        fputs("}", out);
    }
    fputs("]", out);
}

static void print_latency(FILE *out) {
    static const struct { const char *name; double share; } points[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}, {"p99_99", 0.9999}};
    fputs("\"latency_us\": {", out);
    for (unsigned i = 0; i < sizeof points / sizeof *points; i++)
        fprintf(out, "\"%s\": %.2f, ", points[i].name, percentile_us(points[i].share));
    fprintf(out, "\"max\": %.2f, \"mean\": %.2f, \"count\": %" PRIu64 "}", (double)totals.latency_max_ns / 1e3,
            totals.latency_count ? (double)totals.latency_sum_ns / 1e3 / (double)totals.latency_count : 0.0,
            totals.latency_count);
}

void print_report(FILE *out) {
    double seconds = (double)(totals.end_ns - totals.start_ns) / 1e9;
    double calls = totals.calls ? (double)totals.calls : 1;
    uint64_t errors = totals.unanswered;
    for (unsigned i = 0; i < ERRORS; i++) errors += totals.errors[i];
    fprintf(out, "{\"protocol\": \"%s\", \"connections\": %u, \"streams\": %u, \"planned_rate\": %.1f, ",
            options.protocol, options.connections, options.streams, options.rate_per_s);
    fprintf(out, "\"seconds\": %.4f, \"calls\": %" PRIu64 ", \"rate\": %.1f, \"errors\": %" PRIu64 ", ", seconds,
            totals.calls, (double)totals.calls / seconds, errors);
    fprintf(out, "\"error_kinds\": {\"transport\": %" PRIu64 ", \"status\": %" PRIu64 ", \"message\": %" PRIu64
            ", \"verdict\": %" PRIu64 ", \"unanswered\": %" PRIu64 "}, ", totals.errors[ERROR_TRANSPORT],
            totals.errors[ERROR_STATUS], totals.errors[ERROR_MESSAGE], totals.errors[ERROR_VERDICT], totals.unanswered);
    print_counts(out, "statuses", totals.statuses, GRPC_STATUSES);
    fputs(", ", out);
    print_counts(out, "verdicts", totals.verdicts, VERDICTS);
    fputs(", ", out);
    print_latency(out);
    fprintf(out, ", \"client_cpu_us\": %.4f, \"client_busy\": %.4f, ", (double)totals.own_cpu_ns / 1e3 / calls,
            (double)totals.own_cpu_ns / 1e9 / seconds);
    if (options.server_pid)
        fprintf(out, "\"server_cpu_us\": %.4f, \"server_busy\": %.4f, ", (double)totals.server_cpu_ns / 1e3 / calls,
                (double)totals.server_cpu_ns / 1e9 / seconds);
    fprintf(out, "\"reconnects\": %" PRIu64 ", \"unprocessed\": %" PRIu64 ", \"backward\": %" PRIu64 ", ",
            totals.reconnects, totals.unprocessed, totals.backward);
    print_revisions(out);
    fputs("}\n", out);
}
