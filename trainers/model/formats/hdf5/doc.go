// Package hdf5 reads and writes the part of HDF5 that Keras' weight files are made of: groups, float tensors, and
// attributes that hold texts and numbers.
//
// Its one idea: a reader that distrusts every length, and a writer that needs no seeking. The reader takes what h5py
// writes by default in all its versions (superblocks 0 to 3, object headers 1 and 2, B-trees of version 1 of any depth,
// header continuations, compact, contiguous and chunked data with shuffle and deflate, fixed and variable texts); what it
// does not do is an error of kind Unsupported that names it. It reads through io.ReaderAt, so a file may lie on HDFS or
// inside an archive. The writer knows every address before the first byte, so it streams: tensors are written from where
// they lie, and a file of many gigabytes needs memory for its names only.
//
// Field names and layouts follow the HDF5 File Format Specification, version 3.0; comments name its sections.
package hdf5
