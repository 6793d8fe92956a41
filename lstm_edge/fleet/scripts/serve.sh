# Run a command line with the standard input and output of the connection; sandbox.sh kills it by its mark. Arguments:
# folder of the sandbox, command line.
LSTM_EDGE_STEP=$1 exec sh -c "$2"
