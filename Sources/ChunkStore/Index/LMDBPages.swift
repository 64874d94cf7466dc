internal import Platform

/// The pages of an LMDB 0.9 file as they lie on the disk. LMDB itself believes most of what stands in them, and a wrong bit in the
/// head of a page shows only when the page is written anew.
struct LMDBPages {
    /// One B-tree, as a meta page or the tree of names describes it.
    private struct Tree {
        var pad: UInt64
        var flags: UInt64
        var depth: Int
        var branches: UInt64
        var leaves: UInt64
        var overflows: UInt64
        var entries: UInt64
        var root: UInt64

        init(_ bytes: ArraySlice<UInt8>) {
            pad = bytes.number(0, 4)
            flags = bytes.number(4, 2)
            depth = Int(bytes.number(6, 2))
            branches = bytes.number(8, 8)
            leaves = bytes.number(16, 8)
            overflows = bytes.number(24, 8)
            entries = bytes.number(32, 8)
            root = bytes.number(40, 8)
        }

        static let size = 48
    }

    private struct Counts: Equatable {
        var branches: UInt64 = 0
        var leaves: UInt64 = 0
        var overflows: UInt64 = 0
        var entries: UInt64 = 0
    }

    private typealias Page = ArraySlice<UInt8>
    private static let none = UInt64.max
    /// A file keeps what the machine that made it has: 4096 bytes mostly, on 64-bit Arm up to 64 KiB, of which LMDB takes 32.
    private static let pageSizes = 4096...32768

    private let file: File
    private let pageSize: Int
    /// Behind the last page.
    private var end: UInt64 = 2
    private var reached: Set<UInt64> = []
    private var free: Set<UInt64> = []

    /// - Throws: `LMDBError.corrupted` where a page that counts has anything but what LMDB writes into it.
    static func check(_ path: Path) throws {
        var pages = try LMDBPages(file: try File(path, .read))
        try pages.check()
    }

    /// The same of the two meta pages alone: by the size of a page that they say, LMDB divides.
    static func checkMetas(_ path: Path) throws { _ = try LMDBPages(file: try File(path, .read)).metas() }

    private init(file: File) throws {
        self.file = file
        let head = try Self.read(file, Self.pageSizes.lowerBound, at: 0)
        pageSize = Int(Tree(head.part(40, Tree.size)).pad)
        guard Self.pageSizes.contains(pageSize), pageSize.nonzeroBitCount == 1 else {
            throw LMDBError.corrupted
        }
    }

    private func metas() throws -> [Page] {
        let metas = try [0, 1].map { try page($0) }
        for meta in metas {
            // The head's flags, LMDB's magic, its version, no address of its own.
            try require(meta.number(10, 2) == 8 && meta.number(16, 4) == 0xBEEF_C0DE)
            try require(meta.number(20, 4) == 1 && meta.number(24, 8) == 0)
            // The tree of free pages has the size of a page and the flags MDB_NOSUBDIR and MDB_INTEGERKEY.
            let free = Tree(meta.part(40, Tree.size))
            try require(free.pad == UInt64(pageSize) && free.flags == 0x4008)
        }
        return metas
    }

    private mutating func check() throws {
        let metas = try metas()
        let meta = metas[metas[0].number(144, 8) < metas[1].number(144, 8) ? 1 : 0]
        let last = meta.number(136, 8)
        try require(last > 0 && last < 1 << 40)
        end = last + 1
        var lists: [[UInt8]] = []
        try walk(Tree(meta.part(40, Tree.size)), isSorted: false) { node in lists.append([UInt8](node.value))
        }
        var trees: [Tree] = []
        try walk(Tree(meta.part(88, Tree.size)), isSorted: true, holdsTrees: true) { node in
            trees.append(Tree(node.value))
        }
        // No other order of keys, no several values of one.
        for tree in trees + [Tree(meta.part(88, Tree.size))] { try require(tree.pad == 0 && tree.flags == 0) }
        for tree in trees { try walk(tree, isSorted: true) { _ in } }
        for list in lists { try addFree(list) }
        try require(UInt64(reached.count + free.count) + 2 <= end)
    }

    /// Pages that a transaction gave up: how many, and each.
    private mutating func addFree(_ list: [UInt8]) throws {
        try require(list.count >= 8 && list.count.isMultiple(of: 8))
        let count = list[...].number(0, 8)
        try require(count < UInt64(list.count / 8))
        for place in 1..<Int(count) + 1 {
            let number = list[...].number(place * 8, 8)
            try require(
                number > 1 && number < end && !reached.contains(number) && free.insert(number).inserted)
        }
    }

    private struct Node {
        var key: ArraySlice<UInt8>
        var value: ArraySlice<UInt8>
    }

    private mutating func walk(
        _ tree: Tree, isSorted: Bool, holdsTrees: Bool = false, _ visit: (Node) throws -> Void
    ) throws {
        var counts = Counts()
        if tree.root == Self.none {
            try require(tree.depth == 0)
        } else {
            try require(tree.depth > 0 && tree.depth <= 32)
            try walk(tree.root, tree.depth, nil, nil, isSorted, holdsTrees, &counts, visit)
        }
        try require(
            counts
                == Counts(
                    branches: tree.branches, leaves: tree.leaves, overflows: tree.overflows,
                    entries: tree.entries))
    }

    /// - Parameters:
    ///   - low: no key below the page may be less than this.
    ///   - high: every key must be less than this.
    private mutating func walk(
        _ number: UInt64, _ depth: Int, _ low: Page?, _ high: Page?, _ isSorted: Bool, _ holdsTrees: Bool,
        _ counts: inout Counts, _ visit: (Node) throws -> Void
    ) throws {
        let page = try reach(number)
        let isLeaf = depth == 1
        try require(page.number(10, 2) == (isLeaf ? 2 : 1))
        let nodes = try nodes(of: page)
        if isLeaf { counts.leaves += 1 } else { counts.branches += 1 }
        var previous = low
        for (index, start) in nodes.enumerated() {
            let key = page.part(start + 8, Int(page.number(start + 6, 2)))
            // The first key of a branch is not looked at.
            let lower = !isLeaf && index == 0 ? low : key
            if isSorted, isLeaf || index > 0 {
                try require(previous.map { !key.lexicographicallyPrecedes($0) } ?? true)
                try require(high.map { key.lexicographicallyPrecedes($0) } ?? true)
            }
            if isLeaf {
                if isSorted, index > 0 { try require(previous != key) }
                counts.entries += 1
                let value = try value(of: page, start, holdsTrees, &counts)
                try visit(Node(key: key, value: value))
            } else {
                let next = index + 1 < nodes.count ? nodes[index + 1] : nil
                let upper = next.map { page.part($0 + 8, Int(page.number($0 + 6, 2))) } ?? high
                try walk(
                    page.number(start, 6), depth - 1, lower, upper, isSorted, holdsTrees, &counts, visit)
            }
            previous = lower
        }
    }

    /// Where the nodes of a branch or leaf begin: each inside of the page, none over another.
    private func nodes(of page: Page) throws -> [Int] {
        let (lower, upper) = (Int(page.number(12, 2)), Int(page.number(14, 2)))
        try require(lower >= 16 && lower.isMultiple(of: 2) && lower <= upper && upper <= pageSize)
        let isLeaf = page.number(10, 2) == 2
        let starts = stride(from: 16, to: lower, by: 2).map { Int(page.number($0, 2)) }
        var end = upper
        for start in starts.sorted() {
            try require(start == end && start + 8 <= pageSize)
            var length = 8 + Int(page.number(start + 6, 2))
            if isLeaf { length += page.number(start + 4, 2) & 1 != 0 ? 8 : Int(page.number(start, 4)) }
            end = start + (length + 1) / 2 * 2
            try require(end <= pageSize)
        }
        try require(end == pageSize)
        return starts
    }

    /// The value of a leaf's node, which may lie in pages of its own.
    private mutating func value(
        of page: Page, _ start: Int, _ holdsTrees: Bool, _ counts: inout Counts
    ) throws -> Page {
        let size = Int(page.number(start, 4))
        let place = start + 8 + Int(page.number(start + 6, 2))
        switch page.number(start + 4, 2) {
        case 0 where !holdsTrees: return page.part(place, size)
        case 1 where !holdsTrees:
            let first = page.number(place, 8)
            var bytes = [UInt8](try reach(first))
            // A value that became shorter keeps its pages.
            let count = bytes[...].number(12, 4)
            try require(
                bytes[...].number(10, 2) == 4 && count <= end && 16 + size <= Int(count) * pageSize)
            for more in 1..<max(1, count) { bytes += try reach(first + more, isHead: false) }
            counts.overflows += count
            return bytes[16..<16 + size]
        case 2 where holdsTrees && size == Tree.size: return page.part(place, size)
        default: throw LMDBError.corrupted
        }
    }

    /// A page that must not have been reached before.
    private mutating func reach(_ number: UInt64, isHead: Bool = true) throws -> Page {
        try require(number > 1 && number < end && reached.insert(number).inserted)
        let page = try page(number)
        try require(!isHead || page.number(0, 8) == number)
        return page
    }

    private func page(_ number: UInt64) throws -> Page {
        try Self.read(file, pageSize, at: number * UInt64(pageSize))
    }

    private static func read(_ file: File, _ count: Int, at offset: UInt64) throws -> Page {
        do {
            return try file.read(count, at: offset)[...]
        } catch  where error.code == .changed {
            throw LMDBError.corrupted
        }
    }

    private func require(_ condition: Bool) throws {
        if !condition { throw LMDBError.corrupted }
    }
}

extension ArraySlice<UInt8> {
    /// The little-endian number at a place.
    fileprivate func number(_ offset: Int, _ count: Int) -> UInt64 {
        self[(startIndex + offset)..<(startIndex + offset + count)].reversed().reduce(0) {
            $0 << 8 | UInt64($1)
        }
    }

    fileprivate func part(_ offset: Int, _ count: Int) -> ArraySlice<UInt8> {
        self[(startIndex + offset)..<(startIndex + offset + count)]
    }
}
