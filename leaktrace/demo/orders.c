/*
 * The program that `cargo xtask demo` traces: a pretend order service with one
 * leak. Each request allocates and frees, a cache of customers is full soon and
 * then replaces what it holds, and an audit entry of each request is never freed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/*
 * About 2000 requests a second, every 12th of another customer: the cache is full
 * after three seconds, and what it holds is up to three seconds old.
 */
enum { TICK_NS = 430000, REQUESTS_PER_CUSTOMER = 12, CACHED_CUSTOMERS = 512 };

/* Keeps small functions apart, so that the report can name each of them. */
#define NOINLINE __attribute__((noinline, noclone))

struct customer { unsigned id; char address[200]; };
struct order { unsigned id, customer; char note[48]; };
struct audit_entry { struct audit_entry *next; unsigned order; char text[]; };

static struct customer *cache[CACHED_CUSTOMERS];
static struct audit_entry *audit_log;
static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

static void *must(void *block)
{
    if (!block)
        abort();
    return block;
}

static NOINLINE struct order *parse_order(unsigned id)
{
    struct order *order = must(malloc(sizeof *order));
    order->id = id;
    order->customer = id / REQUESTS_PER_CUSTOMER;
    strcpy(order->note, "two coffees, one without milk");
    return order;
}

/* Innocent: it grows only until every slot is taken. */
static NOINLINE struct customer *find_customer(unsigned id)
{
    struct customer **slot = &cache[id % CACHED_CUSTOMERS];
    if (!*slot || (*slot)->id != id) {
        free(*slot);
        *slot = must(calloc(1, sizeof **slot));
        (*slot)->id = id;
    }
    return *slot;
}

/* The leak: entries are added for ever, and no one takes them off. */
static NOINLINE struct audit_entry *append_entry(const char *text, unsigned order)
{
    struct audit_entry *entry = must(malloc(sizeof *entry + strlen(text) + 1));
    strcpy(entry->text, text);
    entry->order = order;
    entry->next = audit_log;
    audit_log = entry;
    return entry;
}

static NOINLINE unsigned audit_order(const struct order *order, const struct customer *by)
{
    char text[96];
    snprintf(text, sizeof text, "order %u by customer %u: %s", order->id, by->id, order->note);
    return append_entry(text, order->id)->order + 1;
}

static NOINLINE unsigned handle_request(unsigned id)
{
    struct order *order = parse_order(id);
    unsigned next = audit_order(order, find_customer(order->customer));
    free(order);
    return next;
}

int main(void)
{
    struct timespec tick = { 0, TICK_NS };
    unsigned id = 0;
    signal(SIGTERM, stop);
    /* Whatever happens to the one who started it, the demo leaves nothing behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!stopped) {
        id = handle_request(id);
        nanosleep(&tick, NULL);
    }
    return 0;
}
