# Sourced by the scripts of tools/.
# whole_number NAME VALUE LEAST [MOST]: ends the script where VALUE is no whole number from LEAST to MOST.
whole_number() {
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || (($2 < $3 || $2 > ${4:-999999999})); then
        echo "error: $1 must be a whole number of at least $3${4:+ and at most $4}, but is \"$2\"." >&2
        exit 2
    fi
}
