package sparkconn

import (
	"strings"

	"github.com/apache/spark-connect-go/v35/spark/sql/utils"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// service is the path of Spark Connect's methods.
const service = "/spark.connect.SparkConnectService/"

// message is a protocol message of spark-connect-go. Its Go types are internal to that module, so fields are set and
// read by name. A name that the protocol does not have is a mistake of this package: it panics in the first test.
type message struct{ protoreflect.Message }

// protocol ties this package to the generated protocol of spark-connect-go, which registers itself when it is linked.
var protocol = utils.ToProtoJoinType(utils.JoinTypeInner).Descriptor().ParentFile().Package()

func newMessage(name string) message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(protocol.Append(protoreflect.Name(name)))
	if err != nil {
		panic("sparkconn: " + err.Error())
	}
	return message{t.New()}
}

func (m message) field(name string) protoreflect.FieldDescriptor {
	f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if f == nil {
		panic("sparkconn: " + string(m.Descriptor().FullName()) + " has no field " + name)
	}
	return f
}

// in gives the message at a path of field names, making what is missing.
func (m message) in(path string) message {
	for name := range strings.SplitSeq(path, ".") {
		m = message{m.Mutable(m.field(name)).Message()}
	}
	return m
}

// add appends a message to a list and gives it.
func (m message) add(list string) message {
	return message{m.Mutable(m.field(list)).List().AppendMutable().Message()}
}

func (m message) set(name, value string) message {
	m.Set(m.field(name), protoreflect.ValueOfString(value))
	return m
}

func (m message) setBool(name string, value bool) message {
	m.Set(m.field(name), protoreflect.ValueOfBool(value))
	return m
}

func (m message) setEnum(name, value string) message {
	f := m.field(name)
	v := f.Enum().Values().ByName(protoreflect.Name(value))
	if v == nil {
		panic("sparkconn: " + name + " has no value " + value)
	}
	m.Set(f, protoreflect.ValueOfEnum(v.Number()))
	return m
}

func (m message) append(list string, values ...string) message {
	l := m.Mutable(m.field(list)).List()
	for _, v := range values {
		l.Append(protoreflect.ValueOfString(v))
	}
	return m
}

func (m message) put(field string, values map[string]string) message {
	o := m.Mutable(m.field(field)).Map()
	for k, v := range values {
		o.Set(protoreflect.ValueOfString(k).MapKey(), protoreflect.ValueOfString(v))
	}
	return m
}

func (m message) str(name string) string { return m.Get(m.field(name)).String() }

// has gives the message of a field, if it is set.
func (m message) has(name string) (message, bool) {
	f := m.field(name)
	if !m.Has(f) {
		return message{}, false
	}
	return message{m.Get(f).Message()}, true
}

// choice gives the name of the field of a oneof that is set, or the empty string.
func (m message) choice(oneof string) string {
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName(protoreflect.Name(oneof)))
	if f == nil {
		return ""
	}
	return string(f.Name())
}

func (m message) wire() proto.Message { return m.Interface() }

// unknown gives the text of a field that newer servers send and this protocol does not know, or the empty string.
func (m message) unknown(number protowire.Number) string {
	text := ""
	fields(m.GetUnknown(), func(n protowire.Number, v []byte) {
		if n == number {
			text = string(v)
		}
	})
	return text
}

// fields calls f for every length-delimited field of an encoded message; bad bytes end it.
func fields(b []byte, f func(n protowire.Number, v []byte)) {
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return
		}
		b = b[k:]
		if k = protowire.ConsumeFieldValue(n, t, b); k < 0 {
			return
		}
		if t == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			f(n, v)
		}
		b = b[k:]
	}
}

// number gives a varint field of an encoded message as an int32 of the protocol, or 0.
func number(b []byte, want protowire.Number) int { return int(int32(varint(b, want))) }

// varint gives a varint field of an encoded message as an int64 of the protocol, or 0.
func varint(b []byte, want protowire.Number) int64 {
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return 0
		}
		b = b[k:]
		if n == want && t == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(b)
			return int64(v)
		}
		if k = protowire.ConsumeFieldValue(n, t, b); k < 0 {
			return 0
		}
		b = b[k:]
	}
	return 0
}

// sqlPlan is a query that gives rows.
func sqlPlan(text string) message {
	p := newMessage("Plan")
	sqlRelation(p.in("root"), text)
	return p
}

func sqlRelation(r message, text string) message {
	r.in("sql").set("query", text)
	return r
}
