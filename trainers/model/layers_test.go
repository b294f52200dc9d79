package model

import "reflect"

// copyOp copies the fields of a layer.
func copyOp(into any, from Op) { reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from).Elem()) }
