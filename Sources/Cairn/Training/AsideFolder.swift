internal import Platform

/// Where `resume` puts what stands in the way of a framework: in one folder, below which everything keeps its path. Nothing in it is
/// ever deleted.
struct AsideFolder {
    // accelerate takes the greatest number that it finds in any name, so that there has to be one, and none below it.
    private static let name = OutputFolder.ownPrefix + "set-aside-0"

    /// How often another node may take the same name for what it sets aside.
    private static let attempts = 100

    let path: Path
    private let output: Path

    init(in output: Path) {
        self.output = output
        path = output.appending(Self.name)
    }

    /// Moves something into it.
    /// - Parameter relative: below the output folder.
    /// - Returns: where it is now; nil where another node was faster.
    func take(_ relative: String) throws -> Path? {
        let place = output.appending(relative)
        for attempt in 1... {
            guard let found = try FileSystem.status(place) else { return nil }
            let target = try freePlace(for: relative)
            try FileSystem.makeFolders(target.parent)
            do throws(CairnError) {
                try FileSystem.move(place, to: target)
            } catch {
                guard error.code == .notFound || error.code == .exists, attempt < Self.attempts else {
                    throw error
                }
                // What lies here now may be what another node has brought back.
                if try FileSystem.status(place)?.inode != found.inode { return nil }
                continue
            }
            try FileSystem.syncFolder(target.parent)
            try FileSystem.syncFolder(place.parent)
            return target
        }
        return nil
    }

    private func freePlace(for relative: String) throws -> Path {
        var (place, number) = (path.appending(relative), 1)
        while try FileSystem.status(place) != nil {
            number += 1
            place = path.appending("\(relative).\(number)")
        }
        return place
    }

    /// Bytes in it; nil where there is none.
    func bytes() throws -> UInt64? {
        guard try FileSystem.status(path) != nil else { return nil }
        return Self.bytes(below: path)
    }

    private static func bytes(below folder: Path) -> UInt64 {
        var sum: UInt64 = 0
        // What can't be read is not counted: it is no reason to fail.
        for name in (try? FileSystem.names(in: folder)) ?? [] {
            let path = folder.appending(name)
            guard let status = (try? FileSystem.status(path)) ?? nil else { continue }
            sum += status.kind == .folder ? bytes(below: path) : status.size
        }
        return sum
    }
}
