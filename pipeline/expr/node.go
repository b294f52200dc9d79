package expr

// Node is one operator of a tree. Which fields an operator uses is said at its constant.
type Node struct {
	Op    Op        `json:"op"`
	Args  []*Node   `json:"args,omitempty"`
	Name  string    `json:"name,omitempty"`  // Col
	Kind  Kind      `json:"kind,omitempty"`  // Lit, Cast
	Num   *float64  `json:"num,omitempty"`   // Lit of Int64, Float32, Float64; Bool as 0 or 1
	Text  *string   `json:"text,omitempty"`  // Lit of String
	Vec   []float64 `json:"vec,omitempty"`   // Lit vector
	Texts []string  `json:"texts,omitempty"` // IndexOf: the vocabulary
	Width int       `json:"width,omitempty"` // OneHot, Scatter: size of the result
}

// Op names an operator.
type Op string
