internal import Platform

extension ChunkStore {
    /// Checks journal, index and the packs' tables, and whether the index says what journal and tables say.
    public func checkStructure() throws -> StructureReport {
        try checkProcess()
        try checkIdentity()
        var report = StructureReport()
        try opened.change { _ in
            try locks.reading {
                guard let index = try indexToCheck(&report) else {
                    if let records = try checkJournal(journal, nil, &report) {
                        try checkPacks(JournalFold(records), &report)
                    }
                    return
                }
                try index.read { transaction in
                    guard let records = try checkJournal(journal, transaction, &report) else { return }
                    try checkPacks(JournalFold(records), &report)
                    do {
                        try checkIndex(records, transaction, &report)
                    } catch let error as CairnError where error.code == .damage {
                        report.noteDamagedIndex(error.message)
                    }
                }
            }
        }
        return report
    }

    private func indexToCheck(_ report: inout StructureReport) throws -> Index? {
        guard try FileSystem.status(indexPath, followLinks: true) != nil else {
            report.index = .obsolete
            return nil
        }
        do {
            return try Index.checked(indexPath)
        } catch let error as CairnError where error.code == .notFound {
            report.index = .obsolete
        } catch let error as CairnError where error.code == .damage {
            report.noteDamagedIndex(error.message)
        }
        return nil
    }

    /// All records, damaged ones as the index has them; nil where one can't be had.
    private func checkJournal(
        _ journal: Journal, _ transaction: IndexTransaction?, _ report: inout StructureReport
    ) throws -> [Journal.Stored]? {
        var position = Journal.Position.start
        var records: [Journal.Stored] = []
        while true {
            do {
                records.append(try journal.validRecord(at: position))
            } catch let error as FormatError {
                let sentence =
                    "Record \(position.sequence) of the journal, at byte \(position.offset), \(error); run `cairn repair`."
                guard let copy = try transaction.flatMap({ try recordCopy(at: position, journal, $0) }) else {
                    // The journal's end, or damage that nothing here can get around.
                    if (try? journal.record(at: position)) == nil,
                        (try? journal.records(from: position)) != nil
                    {
                        return records.isEmpty ? nil : records
                    }
                    report.problems.append(sentence)
                    return nil
                }
                report.problems.append(sentence)
                report.damagedIterations.insert(position.sequence)
                records.append(copy)
            }
            position = records.last!.next
        }
    }

    /// What the index has of a record that the journal has lost. It proves itself by its checksum and the chain. nil where the
    /// journal has nothing at all in the place of the last one: then that was taken back after a commit that failed.
    func recordCopy(
        at position: Journal.Position, _ journal: Journal, _ transaction: IndexTransaction
    ) throws -> Journal.Stored? {
        guard let (offset, bytes) = try? transaction.record(position.sequence), offset == position.offset,
            let record = try? JournalRecord(decoding: bytes, store: id), record.sequence == position.sequence,
            record.previous == position.previous,
            try journal.hasBytes(at: offset) || isCutShort(journal, transaction)
        else { return nil }
        let next = Journal.Position(
            offset: offset + UInt64(JournalRecord.padded(bytes.count)), sequence: position.sequence + 1,
            previous: record.encoded(store: id).hash)
        return Journal.Stored(record: record, offset: offset, bytes: bytes, next: next)
    }

    private func checkPacks(
        _ fold: JournalFold, _ report: inout StructureReport
    ) throws {
        for pack in fold.packs {
            do {
                try checkFrame(pack.summary)
                _ = try packs.table(pack.summary)
            } catch let error as CairnError where error.code == .damage {
                report.damagedPacks.insert(pack.summary.name)
                report.problems.append(error.message + ".")
            }
        }
    }

    /// Header and trailer of a pack.
    private func checkFrame(_ summary: PackSummary) throws {
        let path = packs.path(summary.name)
        do {
            let file = try File(path, .read)
            try PackFormat.checkHeader(
                try file.read(PackFormat.headerSize, at: 0), store: id, name: summary.name)
            let trailer = try file.read(
                PackFormat.trailerSize, at: summary.fileLength - UInt64(PackFormat.trailerSize))
            guard
                try PackSummary(trailer: trailer, name: summary.name, fileLength: summary.fileLength)
                    == summary
            else {
                throw FormatError("has another trailer than the journal says")
            }
        } catch let error as FormatError {
            throw CairnError(.damage, "\(path) \(error); run `cairn repair`", path: path.text)
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            throw CairnError(
                .damage, "\(path) is missing or cut short; restore it from a copy", path: path.text)
        }
    }
}
