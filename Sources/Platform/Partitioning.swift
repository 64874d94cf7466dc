extension Range<Int> {
    /// The first number from which on `isBehind` is true, where it is true for all that follow one for which it is; the end where it is
    /// true for none. O(log n)
    public func partitioningIndex(where isBehind: (Int) throws -> Bool) rethrows -> Int {
        var (low, high) = (lowerBound, upperBound)
        while low < high {
            let middle = low + (high - low) / 2
            if try isBehind(middle) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
