package box

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Block is one block of a file on HDFS.
type Block struct {
	Name     string   `json:"name"` // blk_1073741825
	Offset   int64    `json:"offset"`
	Length   int64    `json:"length"`
	Replicas []string `json:"replicas"` // addresses of the datanodes that hold it
}

// fault carries out a command that breaks or mends something, or looks at it.
func (s *supervisor) fault(words []string) (string, error) {
	if !s.o.hdfs() && signalNames[words[0]] == nil {
		return "", &Error{Kind: kindUsage, Message: "the box in " + s.o.Dir + " has no HDFS"}
	}
	if n, known := wordCount[words[0]]; !known || len(words) < n.least || len(words) > n.most {
		return "", &Error{Kind: kindUsage, Message: "command: " + strings.Join(words, " "), Err: errWords}
	}
	switch words[0] {
	case "blocks":
		blocks, err := s.blocks(words[1])
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(blocks)
		return string(text), err
	case "flip":
		return s.flip(words[1:])
	case "pause", "resume", "kill":
		return "", s.signal(words[0], words[1])
	}
	if s.o.Separate {
		return s.separateFault(words)
	}
	lines, err := s.call(s.lifetime, allInOne, strings.Join(words, " "))
	return strings.Join(lines, "\n"), err
}

// wordCount says how many words each command has.
var wordCount = map[string]struct{ least, most int }{
	"stopdn": {2, 2}, "startdn": {2, 2}, "killnn": {1, 2}, "startnn": {1, 2}, "active": {2, 2}, "standby": {2, 2},
	"safemode": {2, 2}, "blocks": {2, 2}, "flip": {4, 5}, "ackdelay": {2, 2}, "pause": {2, 2}, "resume": {2, 2}, "kill": {2, 2},
}

// separateFault carries out what is a matter of processes when every server has its own.
func (s *supervisor) separateFault(words []string) (string, error) {
	switch words[0] {
	case "stopdn", "startdn":
		i, err := strconv.Atoi(words[1])
		if err != nil || i < 0 || i >= s.o.Datanodes {
			return "", &Error{Kind: kindUsage, Message: "there is no datanode " + words[1]}
		}
		name := fmt.Sprint(datanode, i)
		if words[0] == "stopdn" {
			return "", s.stopProcess(name)
		}
		return "", s.restart(name)
	case "killnn":
		return "", s.stopProcess(namenode)
	case "startnn":
		return "", s.restart(namenode)
	case "ackdelay":
		for i := range s.o.Datanodes {
			if _, err := s.call(s.lifetime, fmt.Sprint(datanode, i), strings.Join(words, " ")); err != nil {
				return "", err
			}
		}
		return "", nil
	case "safemode":
		_, err := s.call(s.lifetime, namenode, strings.Join(words, " "))
		return "", err
	default:
		return "", &Error{Kind: kindUnsupported, Message: words[0] + " needs two namenodes", Hint: "start the box with HA"}
	}
}

// signal sends a signal to a process by its name.
func (s *supervisor) signal(word, name string) error {
	sig, known := signalNames[word]
	if !known {
		return &Error{Kind: kindUnsupported, Message: word + " on this system"}
	}
	s.mu.Lock()
	d := s.daemons[name]
	s.mu.Unlock()
	if d == nil {
		return &Error{Kind: kindUnreachable, Message: name + " is not running"}
	}
	p, err := os.FindProcess(d.pid)
	if err == nil {
		err = p.Signal(sig)
	}
	if err != nil {
		return &Error{Kind: kindInternal, Message: word + " " + name, Err: err}
	}
	switch word {
	case "kill":
		<-d.gone
	case "pause":
		return s.waitStopped(name, d.pid)
	}
	return nil
}

// waitStopped waits until every thread of a process stands still: the signal is delivered to them one after the other, and
// one that runs could still answer.
func (s *supervisor) waitStopped(name string, pid int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for !stopped(pid) {
		select {
		case <-tick.C:
		case <-late.C:
			return &Error{Kind: kindTimeout, Message: name + " does not stop"}
		}
	}
	return nil
}

// stopProcess ends a process at once and waits for its end.
func (s *supervisor) stopProcess(name string) error {
	s.mu.Lock()
	d := s.daemons[name]
	s.mu.Unlock()
	if d != nil {
		killGroup(d.pid)
		<-d.gone
	}
	return nil
}

// restart starts a process of HDFS again, on its former port.
func (s *supervisor) restart(name string) error {
	s.mu.Lock()
	d := s.daemons[name]
	s.mu.Unlock()
	if d != nil {
		select {
		case <-d.done: // a moment ago
		default:
			return nil
		}
	}
	b := s.snapshot()
	cmd := s.launcher.namenode(portOf(b.Namenodes[0].Address))
	if name != namenode {
		i, err := strconv.Atoi(strings.TrimPrefix(name, datanode))
		if err != nil {
			return &Error{Kind: kindInternal, Message: name + " cannot be started again", Err: err}
		}
		cmd = s.launcher.datanode(i, portOf(b.Datanodes[i].Address), s.clientProperties())
	}
	if err := s.startProcess(s.lifetime, name, cmd); err != nil {
		return err
	}
	return s.publish()
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "0"
	}
	return port
}

// blocks asks the namenode for the blocks of a file.
func (s *supervisor) blocks(path string) ([]Block, error) {
	process := allInOne
	if s.o.Separate {
		process = namenode
	}
	lines, err := s.call(s.lifetime, process, "blocks "+path)
	if err != nil {
		return nil, err
	}
	return parseBlocks(lines)
}

// parseBlocks reads lines of name, offset, length and the addresses of the replicas.
func parseBlocks(lines []string) ([]Block, error) {
	blocks := []Block{}
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 3 {
			return nil, &Error{Kind: kindInternal, Message: "a block: " + line}
		}
		b := Block{Name: words[0], Replicas: words[3:]}
		var err error
		if b.Offset, err = strconv.ParseInt(words[1], 10, 64); err == nil {
			b.Length, err = strconv.ParseInt(words[2], 10, 64)
		}
		if err != nil {
			return nil, &Error{Kind: kindInternal, Message: "a block: " + line, Err: err}
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// flip inverts one byte in one or all replicas of a block, behind the datanodes' back.
func (s *supervisor) flip(words []string) (string, error) {
	path, which := words[0], words[2]
	number, err := strconv.Atoi(words[1])
	if err != nil {
		return "", &Error{Kind: kindUsage, Message: "block " + words[1], Err: errWords}
	}
	offset := int64(0)
	if len(words) > 3 {
		if offset, err = strconv.ParseInt(words[3], 10, 64); err != nil {
			return "", &Error{Kind: kindUsage, Message: "offset " + words[3], Err: errWords}
		}
	}
	blocks, err := s.blocks(path)
	if err != nil {
		return "", err
	}
	if number < 0 || number >= len(blocks) {
		return "", &Error{Kind: kindUsage, Message: fmt.Sprintf("%s has %d blocks, there is no block %d", path, len(blocks), number)}
	}
	block := blocks[number]
	files, err := s.replicaFiles(block, which)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if err := invertByte(file, offset); err != nil {
			return "", &Error{Kind: kindUsage, Message: "flip in " + block.Name, Err: err}
		}
	}
	return strings.Join(files, "\n"), nil
}

// replicaFiles finds the files of one replica of a block, or of all. A file is complete as soon as the namenode knows of
// one replica of its last block, so that all are looked for where datanodes keep them.
func (s *supervisor) replicaFiles(block Block, which string) (files []string, err error) {
	if which != "all" {
		i, err := strconv.Atoi(which)
		if err != nil || i < 0 || i >= len(block.Replicas) {
			return nil, &Error{Kind: kindUsage, Message: fmt.Sprintf("%s has %d replicas, there is no replica %s", block.Name, len(block.Replicas), which)}
		}
		file, err := s.blockFile(block.Replicas[i], block.Name)
		return []string{file}, err
	}
	for _, d := range s.snapshot().Datanodes {
		file, err := s.blockFile(d.Address, block.Name)
		if err != nil && !slices.Contains(block.Replicas, d.Address) {
			file, err = s.blockFile(d.Address, block.Name) // it may have been moved to where complete blocks are, behind the first look
		}
		switch {
		case err == nil:
			files = append(files, file)
		case slices.Contains(block.Replicas, d.Address):
			return nil, err
		}
	}
	return files, nil
}

// blockFile finds the file of a block in the folder of the datanode with that address.
func (s *supervisor) blockFile(address, name string) (string, error) {
	nodes := s.snapshot().Datanodes
	i := slices.IndexFunc(nodes, func(d Datanode) bool { return d.Address == address })
	if i < 0 {
		return "", &Error{Kind: kindInternal, Message: "there is no datanode at " + address}
	}
	found := ""
	err := filepath.WalkDir(nodes[i].Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
			return fs.SkipAll
		}
		return err
	})
	if err != nil || found == "" {
		return "", &Error{Kind: kindInternal, Message: "the file of " + name + " below " + nodes[i].Dir + " was not found", Err: err}
	}
	return found, nil
}

// invertByte inverts all bits of one byte of a file.
func invertByte(file string, offset int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		return fmt.Errorf("offset %d: %w", offset, err)
	}
	b[0] = ^b[0]
	if _, err := f.WriteAt(b[:], offset); err != nil {
		return err
	}
	return f.Close()
}
