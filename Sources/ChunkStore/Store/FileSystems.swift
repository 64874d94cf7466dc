internal import Platform

/// The file systems that keep what they promise to a store: locks, atomic renames, syncs that last.
enum FileSystems {
    private static let allowed: [UInt64: String] = [
        0xEF53: "ext4", 0x5846_5342: "xfs", 0x9123_683E: "btrfs", 0x2FC1_2FC1: "zfs", 0x0102_1994: "tmpfs",
        0x794C_7630: "overlay",
    ]
    private static let refused: [UInt64: String] = [
        0x6969: "NFS", 0xFF53_4D42: "CIFS", 0xFE53_4D42: "SMB", 0x6573_5546: "FUSE", 0x4D44: "FAT",
        0x2011_BAB0: "exFAT", 0x0BD0_0BD0: "Lustre", 0x00C3_6400: "Ceph", 0x4750_4653: "GPFS",
        0x9660: "ISO 9660",
    ]

    static func check(_ folder: Path) throws {
        try check(try File(folder, .read).fileSystem(), of: folder)
    }

    /// - Parameter magic: the file system's number, as statfs(2) lists them.
    static func check(_ magic: UInt64, of folder: Path) throws {
        guard allowed[magic] == nil else { return }
        let name = refused[magic] ?? "of type 0x\(String(magic, radix: 16))"
        let known = allowed.values.sorted().joined(separator: ", ")
        throw CairnError(
            .notAStore,
            "the file system of \(folder) (\(name)) is not known to keep a store safe; "
                + "put the store on a local one: \(known)",
            path: folder.text)
    }
}
