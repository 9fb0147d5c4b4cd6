// Owns files that are opened and never closed, each with the buffer of its reader, in a table that no one clears.
// Beside it files that are closed, and a log that is flushed.
package main

import (
	"bufio"
	"corpus/load"
	"os"
)

const forgetsOneIn, flushAt = 20, 1000

type handle struct {
	file   *os.File
	reader *bufio.Reader
}

var table = map[int]handle{}
var lines [][]byte

//go:noinline
func open(id int) handle {
	file, err := os.Open("/etc/passwd") // LEAK: file 1000 bytes/s
	if err != nil {
		panic(err)
	}
	reader := bufio.NewReader(file) // LEAK: reader of a file 42000 bytes/s
	reader.ReadByte()
	return handle{file, reader}
}

func openWell() {
	file, err := os.Open("/etc/passwd") // INNOCENT: closed file
	if err != nil {
		panic(err)
	}
	reader := bufio.NewReader(file) // INNOCENT: reader of a closed file
	reader.ReadByte()
	file.Close()
}

func log(id int) {
	lines = append(lines, make([]byte, 128)) // INNOCENT: log
	if len(lines) == flushAt {
		lines = nil
	}
}

func serve(id int) {
	if id%forgetsOneIn == 0 {
		handle := open(id)
		// The descriptor is closed even then, so that their limit does not end the program.
		handle.file.Close()
		table[id] = handle // EITHER: table of files, which grows in steps
	} else {
		openWell()
	}
	log(id)
}

func main() { load.Drive(serve) }
