// Package onnx writes a trained model as an ONNX file: the fitted preprocessing as nodes in front, the layers behind, so
// that a server takes raw columns.
//
// Its one idea: what training did to a row is data, a list of expression trees and a list of layers, and both are
// translated operator by operator (opset 17 and ai.onnx.ml 3, IR version 8). Trees compute in float64, as in both engines;
// layers in float32. Images are channels last outside and channels first inside, transposed at the borders only.
//
// Every raw column is an input of shape [N, 1], or [N, width] for a vector; N is the number of rows. ONNX knows no NULL:
// a missing number is NaN. Nothing stops at a bad row: guards, which end a run with an error, are left out, and where the
// job leaves rows out (filters, handle_invalid: skip), the file has an output valid that is false for such rows.
//
// A layer or operator that ONNX cannot express is an error of kind Unsupported that names it.
package onnx
