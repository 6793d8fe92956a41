# Run a command line for so long at most. Arguments: seconds, command line. The exit status is the command's.
limited "$1" "$2"
