package kerastest

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed oracle.py
var script string

//go:embed requirements.txt
var requirements []byte

// Oracle is the Python process. It may be used from several goroutines: questions are answered one after the other.
type Oracle struct {
	Versions map[string]string // of keras, jax, numpy

	mu      sync.Mutex
	cmd     *exec.Cmd
	in      *os.File
	out     *os.File
	answers *bufio.Reader
	log     *os.File // its standard error
	broken  error    // after a timeout or a lost process
}

// Error is an exception in Python.
type Error struct {
	Op      string // the question
	Message string // type and message of the exception
	Trace   string
}

func (e *Error) Error() string { return "python: " + e.Op + ": " + e.Message }

// shared starts the process of this test binary at its first use. It ends when its standard input does, which is when
// the binary ends, in whatever way.
var shared = sync.OnceValues(start)

// Start gives the oracle of this test binary. Where there is no Python with Keras, and with -short, the test is
// skipped; when DKPIPE_REQUIRE, a list with commas, holds "keras", it fails instead.
func Start(t testing.TB) *Oracle {
	t.Helper()
	required := slices.Contains(strings.Split(os.Getenv("DKPIPE_REQUIRE"), ","), "keras")
	if testing.Short() && !required {
		t.Skip("needs Keras: -short starts no Python")
	}
	if interpreter() == "" {
		const reason = "there is no Python with Keras; .ci/python makes one"
		if required {
			t.Fatal("DKPIPE_REQUIRE asks for keras: " + reason)
		}
		t.Skip("needs Keras: " + reason)
	}
	o, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// interpreter is the Python that DKPIPE_PYTHON names, or the one that .ci/python made before; "" without one.
func interpreter() string {
	if p := os.Getenv("DKPIPE_PYTHON"); p != "" {
		return p
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	key := sha256.Sum256(requirements)
	dir := filepath.Join(cache, "dkpipe", "python-"+hex.EncodeToString(key[:8]))
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		return ""
	}
	return filepath.Join(dir, "bin", "python")
}

// An answer may take this long: the machine may be busy, and JAX compiles every model.
const limit = 5 * time.Minute

func start() (*Oracle, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childOut.Close()
	log, err := os.CreateTemp("", "dkpipe-keras-*.log")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(log.Name()); err != nil { // it is gone with the last one that has it open
		return nil, err
	}
	cmd := exec.Command(interpreter(), "-u", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, log
	cmd.Env = append(os.Environ(), "KERAS_BACKEND=jax", "JAX_PLATFORMS=cpu", "JAX_ENABLE_X64=1", "PYTHONNOUSERSITE=1", "PYTHONUTF8=1",
		"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "KERAS_HOME="+filepath.Join(filepath.Dir(interpreter()), "keras"),
		// Compiled programs run once: time spent on making them fast is lost.
		"XLA_FLAGS=--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
	o := &Oracle{cmd: cmd, in: in, out: out, answers: bufio.NewReaderSize(out, 1<<16), log: log}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("python: %w", err)
	}
	h, _, err := o.answer("start")
	if err != nil {
		o.kill(err)
		return nil, err
	}
	return o, json.Unmarshal(h.Result, &o.Versions)
}

// kill ends the process after it broke the protocol or its time ran out.
func (o *Oracle) kill(cause error) {
	o.broken = cause
	o.in.Close()
	o.out.Close()
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

// The head of a message, a line of JSON. The bytes of its arrays follow.
type head struct {
	Op     string          `json:"op,omitempty"`
	Args   any             `json:"args,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Trace  string          `json:"trace,omitempty"`
	Arrays []array         `json:"arrays"`
}

type array struct {
	Name  string   `json:"name"`
	Shape []int    `json:"shape"`
	Type  string   `json:"type"` // f4, f8, i8, text
	Bytes int      `json:"bytes"`
	Text  []string `json:"text,omitempty"`
}

// ask puts one question. result may be nil.
func (o *Oracle) ask(op string, args any, tensors []Tensor, result any) ([]Tensor, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil {
		return nil, fmt.Errorf("python: %s: the process was lost before: %w", op, o.broken)
	}
	if err := o.send(op, args, tensors); err != nil {
		var bad *tensorError
		if errors.As(err, &bad) {
			return nil, err
		}
		err = fmt.Errorf("python: %s: %w%s", op, err, o.lastWords())
		o.kill(err)
		return nil, err
	}
	h, out, err := o.answer(op)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			o.kill(err)
		}
		return nil, err
	}
	if result != nil {
		if err := json.Unmarshal(h.Result, result); err != nil {
			return nil, fmt.Errorf("python: %s: result %s: %w", op, h.Result, err)
		}
	}
	return out, nil
}

func (o *Oracle) send(op string, args any, tensors []Tensor) error {
	h := head{Op: op, Args: args, Arrays: []array{}}
	var data []byte
	for _, t := range tensors {
		a, bytes, err := t.encode()
		if err != nil {
			return err
		}
		h.Arrays = append(h.Arrays, a)
		data = append(data, bytes...)
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := o.in.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err = o.in.Write(append(append(line, '\n'), data...))
	return err
}

func (o *Oracle) answer(op string) (head, []Tensor, error) {
	if err := o.out.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return head{}, nil, err
	}
	lost := func(err error) error {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", limit)
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the process ended")
		}
		return fmt.Errorf("python: %s: %w%s", op, err, o.lastWords())
	}
	line, err := o.answers.ReadBytes('\n')
	if err != nil {
		return head{}, nil, lost(err)
	}
	var h head
	if err := json.Unmarshal(line, &h); err != nil {
		return head{}, nil, lost(err)
	}
	if h.Error != "" {
		return head{}, nil, &Error{Op: op, Message: h.Error, Trace: h.Trace}
	}
	var tensors []Tensor
	for _, a := range h.Arrays {
		data := make([]byte, a.Bytes)
		if _, err := io.ReadFull(o.answers, data); err != nil {
			return head{}, nil, lost(err)
		}
		tensors = append(tensors, a.decode(data))
	}
	return h, tensors, nil
}

// lastWords is the end of what the process wrote to its standard error.
func (o *Oracle) lastWords() string {
	data := make([]byte, 2000)
	info, err := o.log.Stat()
	if err != nil || info.Size() == 0 {
		return ""
	}
	n, _ := o.log.ReadAt(data, max(0, info.Size()-int64(len(data))))
	return "\n" + string(data[:n])
}

// Tensor is a named array in row-major order. One of the slices holds its elements; what Python answers in another
// floating type comes as Data or Wide, whole numbers and booleans as Ints.
type Tensor struct {
	Name  string
	Shape []int // nil with elements: one dimension
	Data  []float32
	Wide  []float64
	Ints  []int64
	Text  []string
}

// tensorError is a tensor that cannot be sent; the process is not touched.
type tensorError struct{ message string }

func (e *tensorError) Error() string { return e.message }

func (t Tensor) encode() (array, []byte, error) {
	a := array{Name: t.Name, Shape: t.Shape}
	n := len(t.Data) + len(t.Wide) + len(t.Ints) + len(t.Text)
	if a.Shape == nil {
		a.Shape = []int{n}
	}
	size := 1
	for _, d := range a.Shape {
		size *= d
	}
	if size != n {
		return a, nil, &tensorError{fmt.Sprintf("tensor %s has %d elements, its shape %v has %d", t.Name, n, a.Shape, size)}
	}
	var data []byte
	switch {
	case t.Text != nil:
		a.Type, a.Text = "text", t.Text
	case t.Ints != nil:
		a.Type = "i8"
		for _, v := range t.Ints {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
	case t.Wide != nil:
		a.Type = "f8"
		for _, v := range t.Wide {
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
	default:
		a.Type = "f4"
		for _, v := range t.Data {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	a.Bytes = len(data)
	return a, data, nil
}

func (a array) decode(data []byte) Tensor {
	t := Tensor{Name: a.Name, Shape: a.Shape, Text: a.Text}
	switch a.Type {
	case "f4":
		t.Data = make([]float32, len(data)/4)
		for i := range t.Data {
			t.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case "f8":
		t.Wide = make([]float64, len(data)/8)
		for i := range t.Wide {
			t.Wide[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
	case "i8":
		t.Ints = make([]int64, len(data)/8)
		for i := range t.Ints {
			t.Ints[i] = int64(binary.LittleEndian.Uint64(data[8*i:]))
		}
	}
	return t
}

// Values gives the elements as float64, whatever their type.
func (t Tensor) Values() []float64 {
	var out []float64
	for _, v := range t.Data {
		out = append(out, float64(v))
	}
	for _, v := range t.Ints {
		out = append(out, float64(v))
	}
	return append(out, t.Wide...)
}
