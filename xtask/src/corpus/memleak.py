# Starts bcc's memleak. Debian's bindings call `bpf_attach_uprobe` without its last argument, and whatever the register
# holds then stands for it: <https://github.com/iovisor/bcc/blob/v0.26.0/src/cc/libbpf.h>
import ctypes
import runpy

from bcc.libbcc import lib

attach = lib.bpf_attach_uprobe
attach.argtypes = [*attach.argtypes, ctypes.c_uint32]
lib.bpf_attach_uprobe = lambda *arguments: attach(*arguments, 0)
runpy.run_path("/usr/sbin/memleak-bpfcc", run_name="__main__")
