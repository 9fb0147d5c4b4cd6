/* File handles: the buffer that each report's stream was given outlives the stream; a log flushed now and then beside it. */
#include <stdio.h>

#include "load.h"

enum { BUFFER_BYTES = 8192, LEAKS_ONE_IN = 40, FLUSH_EVERY = 400 };

static NOINLINE void open_report(void)
{
    /* A stream kept open would meet the limit of descriptors: the buffer is what is forgotten. */
    FILE *file = must(fopen("/dev/null", "w"));
    char *buffer = must(malloc(BUFFER_BYTES)); /* LEAK: file buffer 40960 bytes/s */
    setvbuf(file, buffer, _IOFBF, BUFFER_BYTES);
    fputs("report\n", file);
    fclose(file);
}

struct line { struct line *next; char text[248]; };

static struct line *pending;

/* A sawtooth: lines gather for two seconds and go out together. */
static NOINLINE void log_line(unsigned id)
{
    struct line *line = must(malloc(sizeof *line)); /* INNOCENT: periodic flush */
    snprintf(line->text, sizeof line->text, "request %u", id);
    line->next = pending;
    pending = line;
    if (id % FLUSH_EVERY == FLUSH_EVERY - 1)
        while (pending) {
            struct line *sent = pending;
            pending = sent->next;
            free(sent);
        }
}

static void serve(unsigned id)
{
    if (id % LEAKS_ONE_IN == 0)
        open_report();
    log_line(id);
}

int main(int argc, char **argv) { drive(argc, argv, serve); }
