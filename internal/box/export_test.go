package box

import "context"

// Query runs a statement on the Spark at that address and counts the rows of its result.
func Query(ctx context.Context, address, sql string) (uint64, error) {
	conn, err := dialSpark(address, "")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return query(ctx, conn, newSession(), sql)
}
