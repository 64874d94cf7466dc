/// Files of which each rank writes one, told apart by their numbers.
enum RankFaults {
    /// One fault for each number below `count` that is not there; the first few by name. What takes the time is what is there, whatever
    /// `count` says.
    static func missing(_ count: UInt64, of present: Set<UInt64>, name: (UInt64) -> String) -> [String] {
        let inside = UInt64(present.count { $0 < count })
        guard inside < count else { return [] }
        var faults: [String] = []
        for number in 0..<count where !present.contains(number) {
            guard faults.count < named else {
                faults.append(
                    "\(count - inside - UInt64(named)) more of the \(count) files like these are missing")
                break
            }
            faults.append("\(name(number)) is missing")
        }
        return faults
    }

    private static let named = 8
}
