// A program in a root and with a pid of its own, that makes code while it runs and tells so as perf wants it: by the pid
// that it has there.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Not static: what nobody reads would not be allocated.
void *kept[10];

__attribute__((noinline)) static void site_hidden(void)
{
	for (int i = 0; i < 10; i++)
		kept[i] = malloc(100);
}

int main(void)
{
	// push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char path[64];
	if (page == MAP_FAILED)
		return 1;
	memcpy(page, code, sizeof code);
	snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
	FILE *map = fopen(path, "w");
	if (!map)
		return 1;
	fprintf(map, "%lx %zx made_while_it_runs\n", (unsigned long)page, sizeof code);
	fclose(map);
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	getchar();
	((void (*)(void (*)(void)))page)(site_hidden);
	puts("did");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
