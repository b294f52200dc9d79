package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"dkpipe/hdfsio"
)

// remote is an answer of a NameNode that says no. It satisfies the library's interface for such errors, too.
type remote struct {
	method, exception, message string
}

func (e *remote) Method() string    { return e.method }
func (e *remote) Desc() string      { return "" }
func (e *remote) Exception() string { return e.exception }
func (e *remote) Message() string   { return e.message }

// Error gives the first line of what the server said, without Java's stack.
func (e *remote) Error() string { return firstLine(e.exception, e.message) }

var _ hdfs.Error = (*remote)(nil)

// firstLine takes the sentence out of a Java exception.
func firstLine(exception, message string) string {
	line, _, _ := strings.Cut(message, "\n")
	line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), exception+":"))
	if line == "" {
		return exception[strings.LastIndexByte(exception, '.')+1:]
	}
	return clip(line, 500)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// said is a refusal with the class that errors.Is finds.
type said struct {
	text string
	is   error // fs.ErrNotExist and the like, or nil
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.is }

// refusal says what an exception of Hadoop means.
type refusal struct {
	exception string // the last part of the class name
	message   string // part of the message; empty: any
	is        error
	kind      hdfsio.Kind
	hint      string
}

// refusals is searched from the top; the first that fits wins.
var refusals = []refusal{
	{"FileNotFoundException", "", fs.ErrNotExist, hdfsio.KindData, ""},
	{"FileAlreadyExistsException", "", fs.ErrExist, hdfsio.KindUsage, ""},
	{"PathIsNotEmptyDirectoryException", "", syscall.ENOTEMPTY, hdfsio.KindUsage, ""},
	{"IOException", "is not empty", syscall.ENOTEMPTY, hdfsio.KindUsage, ""},
	{"IOException", "is a directory", syscall.EISDIR, hdfsio.KindUsage, ""},
	{"IOException", "under source", syscall.EINVAL, hdfsio.KindUsage, ""},
	{"ParentNotDirectoryException", "", syscall.ENOTDIR, hdfsio.KindUsage, "a file is where a folder is expected"},
	{"PathIsNotDirectoryException", "", syscall.ENOTDIR, hdfsio.KindUsage, "a file is where a folder is expected"},
	{"AccessControlException", "SIMPLE authentication is not enabled", nil, hdfsio.KindUnsupported, "the cluster wants Kerberos, which this version does not speak; copy the data with hdfs dfs -get"},
	{"AuthorizationException", "", fs.ErrPermission, hdfsio.KindDenied, "the cluster does not let this user in; is HADOOP_USER_NAME right?"},
	{"AccessControlException", "", fs.ErrPermission, hdfsio.KindDenied, "give this user the right (hdfs dfs -chmod, -chown, -setfacl), or set HADOOP_USER_NAME to one that has it"},
	{"SafeModeException", "", nil, hdfsio.KindUnreachable, "the NameNode is in safe mode and takes no changes: wait until it has seen its blocks, or look with hdfs dfsadmin -safemode get"},
	{"NSQuotaExceededException", "", syscall.EDQUOT, hdfsio.KindNoSpace, "the quota of names is used up: raise it (hdfs dfsadmin -setQuota), keep fewer versions, or write elsewhere"},
	{"DSQuotaExceededException", "", syscall.EDQUOT, hdfsio.KindNoSpace, "the quota of space is used up: raise it (hdfs dfsadmin -setSpaceQuota), keep fewer versions, or write elsewhere"},
	{"QuotaByStorageTypeExceededException", "", syscall.EDQUOT, hdfsio.KindNoSpace, "the quota of this storage type is used up: raise it, or write elsewhere"},
	{"AlreadyBeingCreatedException", "", syscall.EBUSY, hdfsio.KindBusy, "another client is writing the file"},
	{"RecoveryInProgressException", "", syscall.EBUSY, hdfsio.KindBusy, "the NameNode is closing the file of a client that died: try again in a minute"},
	{"LeaseExpiredException", "", fs.ErrNotExist, hdfsio.KindChanged, "the file was removed, or taken over by another client, while it was written"},
	{"StandbyException", "", nil, hdfsio.KindUnreachable, "no NameNode of this name service is active"},
	{"RetriableException", "", nil, hdfsio.KindUnreachable, "the NameNode is starting: try again"},
	{"ObserverRetryOnActiveException", "", nil, hdfsio.KindUnreachable, "no NameNode of this name service is active"},
	{"IOException", "could only be", nil, hdfsio.KindNoSpace, "no datanode takes the block: are enough of them running, and have they space? (hdfs dfsadmin -report)"},
	{"UnknownCryptoProtocolVersionException", "", errors.ErrUnsupported, hdfsio.KindUnsupported, "the folder is an encryption zone, where this version does not write: take another folder"},
	{"InvalidPathException", "", fs.ErrInvalid, hdfsio.KindUsage, "HDFS does not allow this name"},
	{"HadoopIllegalArgumentException", "", fs.ErrInvalid, hdfsio.KindUsage, ""},
	{"PathComponentTooLongException", "", syscall.ENAMETOOLONG, hdfsio.KindUsage, "shorten the path"},
	{"MaxDirectoryItemsExceededException", "", nil, hdfsio.KindNoSpace, "the folder holds as many entries as this HDFS allows"},
	{"UnresolvedPathException", "", nil, hdfsio.KindUnsupported, "the path leads through a symbolic link; name the target"},
	{"RpcNoSuchMethodException", "", nil, hdfsio.KindUnsupported, "the server is not a NameNode of HDFS 2.6 or later"},
	{"RpcNoSuchProtocolException", "", nil, hdfsio.KindUnsupported, "the server is not a NameNode; is the port that of its RPC service?"},
}

// wrap gives an error of a call its operation, path, kind and hint. The user is the one that HDFS sees.
func wrap(op, path, user string, err error) error {
	if err == nil {
		return nil
	}
	var done *hdfsio.Error
	if errors.As(err, &done) {
		return err
	}
	if errors.Is(err, fs.ErrPermission) { // the library keeps nothing of the answer
		err = &remote{exception: "AccessControlException", message: "permission denied for the user " + user}
	}
	var answer hdfs.Error
	if !errors.As(err, &answer) {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		if errors.Is(err, errNotActive) {
			return &hdfsio.Error{Op: op, Path: path, Kind: hdfsio.KindUnreachable, Hint: "try again when one has taken over", Err: err}
		}
		return hdfsio.Wrap(op, path, err)
	}
	class := answer.Exception()
	text := firstLine(class, answer.Message())
	if i := strings.Index(text, inSafeMode); i > 0 { // before it stand operation and path once more
		text = inSafeMode
	}
	short := class[strings.LastIndexAny(class, ".$")+1:]
	for _, r := range refusals {
		if r.exception == short && strings.Contains(answer.Message(), r.message) {
			return &hdfsio.Error{Op: op, Path: path, Kind: r.kind, Hint: r.hint, Err: &said{text: text, is: r.is}}
		}
	}
	return &hdfsio.Error{Op: op, Path: path, Kind: hdfsio.KindInternal, Err: &said{text: fmt.Sprintf("%s (%s)", text, short)}}
}

// exceptionIs tells whether an error is an answer of a NameNode with one of these exceptions.
func exceptionIs(err error, names ...string) bool {
	var answer hdfs.Error
	if !errors.As(err, &answer) {
		return false
	}
	class := answer.Exception()
	for _, n := range names {
		if class[strings.LastIndexAny(class, ".$")+1:] == n {
			return true
		}
	}
	return false
}

// verdict says what an error of a call means for the client and for another try.
type verdict struct {
	broken bool // the client must not be used again
	again  bool // another NameNode, or the same a little later, may do it
	unsure bool // it may have been done
}

// judge classifies the error of a call that went through a client. What is not an answer of the server is a matter
// of the connection.
func judge(err error) verdict {
	switch {
	case err == nil:
		return verdict{}
	case exceptionIs(err, "StandbyException", "RetriableException", "ObserverRetryOnActiveException"):
		return verdict{broken: true, again: true}
	case starting(err):
		return verdict{again: true}
	case isAnswer(err):
		return verdict{}
	case errors.Is(err, errNotSent), errors.Is(err, errNotActive):
		return verdict{broken: true, again: true}
	}
	// With no broken connection it is the library that stumbled, over something that another try would not change.
	var conns *several
	again := errors.As(err, &conns) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	return verdict{broken: true, again: again, unsure: true}
}

// inSafeMode is how a NameNode says that it takes no changes.
const inSafeMode = "Name node is in safe mode"

// starting tells whether a NameNode has refused a call because it was started a moment ago and has not seen its blocks
// yet. One with a stand-by answers RetriableException then, one alone only says so in its text. Safe mode that somebody
// has turned on does not end by itself and is no reason to wait.
func starting(err error) bool {
	var answer hdfs.Error
	return errors.As(err, &answer) && exceptionIs(err, "SafeModeException") && strings.Contains(answer.Message(), "turned off automatically")
}

// isAnswer tells whether the server has answered, with what the library made of it.
func isAnswer(err error) bool {
	var answer hdfs.Error
	if errors.As(err, &answer) {
		return true
	}
	var done *hdfsio.Error
	if errors.As(err, &done) {
		return true
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return false
	}
	for _, class := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, syscall.ENOTEMPTY, hdfs.ErrReplicating} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

var (
	// errNotSent marks errors before anything of a call was sent.
	errNotSent = errors.New("no connection to a NameNode")
	// errNotActive marks the text that the library makes when all NameNodes say that they are standing by.
	errNotActive = errors.New("no NameNode of the name service is active")
	errClosed    = fmt.Errorf("the HDFS was closed: %w", fs.ErrClosed)
)

// silent is a server that did not do for so long what it should.
type silent struct {
	what string
	d    time.Duration
}

func (e *silent) Error() string { return fmt.Sprintf("%s for %v", e.what, e.d) }
func (e *silent) Unwrap() error { return os.ErrDeadlineExceeded }

// unknownOutcome is what a caller gets whose change may or may not have been made.
func unknownOutcome(op, path string, err error) error {
	kind := hdfsio.KindUnreachable
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		kind = hdfsio.KindTimeout
	}
	if errors.Is(err, context.Canceled) {
		kind = hdfsio.KindInterrupted
	}
	return &hdfsio.Error{Op: op, Path: path, Kind: kind, Err: fmt.Errorf("the answer was lost: %w", plain(err)),
		Hint: "it may have been done all the same: look before doing it again"}
}

// plain turns the end of a connection into a class that has a kind.
func plain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("the server closed the connection: %w", syscall.ECONNRESET)
	}
	return err
}

// ended says why a context is over, with the cause when somebody gave one; nil while it lives.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
