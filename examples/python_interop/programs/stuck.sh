# Starts two more programs, tells all three processes' numbers, and never ends by itself.
sleep 1000 &
first=$!
sleep 1000 &
echo "$$ $first $!"
wait
