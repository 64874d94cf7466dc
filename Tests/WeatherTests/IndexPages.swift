import Foundation

/// The bytes that count in an LMDB 0.9 file: the pages that its newest transaction reaches, without the space between the
/// pointers and the nodes of a page.
struct IndexPages {
    static let pageSize = 4096

    /// By page number: where the bytes in use lie in the page. The head of a page and its pointers come first.
    private(set) var used: [Int: [Range<Int>]] = [:]
    private let bytes: [UInt8]

    init(_ path: String) throws {
        guard let data = FileManager.default.contents(atPath: path) else { throw Trouble("no \(path)") }
        bytes = [UInt8](data)
        // Both meta pages count: the older one's transaction number decides which is the newer.
        let newest = number(0, 144) > number(1, 144) ? 0 : 1
        for meta in 0...1 { used[meta] = [0..<152] }
        walk(Int(number(newest, 80)))
        walk(Int(number(newest, 128)))
    }

    /// A place and a bit in it: any page alike, half of the flips in heads and pointers.
    func flip(_ generator: inout SeededGenerator) -> (offset: Int, bit: UInt8) {
        let page = used.keys.sorted().randomElement(using: &generator)!
        let range = used[page]!.randomElement(using: &generator)!
        let offset = Int.random(in: range, using: &generator)
        return (page * Self.pageSize + offset, 1 << UInt8.random(in: 0..<8, using: &generator))
    }

    /// For each page with a single entry, the bit by which it says that it has none.
    var hidingFlips: [(offset: Int, bit: UInt8)] {
        used.keys.sorted().filter { $0 > 1 && number($0, 12, bytes: 2) == 18 }.map {
            ($0 * Self.pageSize + 12, 2)
        }
    }

    private func number(_ page: Int, _ offset: Int, bytes count: Int = 8) -> UInt64 {
        let start = page * Self.pageSize + offset
        return bytes[start..<start + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private mutating func walk(_ page: Int) {
        guard page >= 0, page < bytes.count / Self.pageSize, used[page] == nil else { return }
        let flags = number(page, 10, bytes: 2)
        let lower = Int(number(page, 12, bytes: 2))
        used[page] = [0..<lower, Int(number(page, 14, bytes: 2))..<Self.pageSize].filter { !$0.isEmpty }
        for pointer in stride(from: 16, to: lower, by: 2) {
            let node = Int(number(page, pointer, bytes: 2))
            let data = node + 8 + Int(number(page, node + 6, bytes: 2))
            if flags & 1 != 0 {
                walk(Int(number(page, node, bytes: 6)))
            } else if number(page, node + 4, bytes: 2) & 1 != 0 {
                let size = Int(number(page, node, bytes: 4))
                let first = Int(number(page, data))
                used[first] = [0..<min(Self.pageSize, size + 16)]
                for more in 1..<max(1, (size + 16 + Self.pageSize - 1) / Self.pageSize) {
                    used[first + more] = [0..<Self.pageSize]
                }
            } else if number(page, node + 4, bytes: 2) & 2 != 0 {
                walk(Int(Int64(bitPattern: number(page, data + 40))))
            }
        }
    }
}
